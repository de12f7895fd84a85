import json
from dataclasses import replace
from pathlib import Path

import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.generate.config import GenerateConfig
from dfdm_ray.jobs.generate.plan import Identity
from dfdm_ray.jobs.generate.settings import require_same_settings


def people(**videos: tuple[str, ...]) -> list[Identity]:
    numbered = enumerate(sorted(videos.items()))
    return [Identity(id=f"id{number}", name=name, videos=uris) for number, (name, uris) in numbered]


CONFIG = GenerateConfig(identities="people", out="out")
FIRST = people(anna=("a.mp4", "b.mp4"), carl=("c.mp4",))


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (people(anna=("a.mp4", "b.mp4"), bob=("d.mp4",), carl=("c.mp4",)), r"bob: \+ d\.mp4"),
        (people(anna=("a.mp4", "b.mp4")), r"carl: - c\.mp4"),
        (people(anna=("0.mp4", "a.mp4", "b.mp4"), carl=("c.mp4",)), r"anna: \+ 0\.mp4"),
        (people(anna=("x.mp4", "y.mp4"), carl=("c.mp4",)), r"anna: - a\.mp4 and 3 more"),
        (people(anna=("b.mp4", "a.mp4"), carl=("c.mp4",)), r"anna: videos in another order"),
    ],
)
def test_other_people_or_videos_on_the_same_folder_are_refused(
    tmp_path: Path, now: list[Identity], says: str
) -> None:
    require_same_settings(tmp_path, FIRST, CONFIG)
    require_same_settings(tmp_path, FIRST, replace(CONFIG, pairs=("anna:carl",)))
    with pytest.raises(UserError, match=rf"other --identities \({says}\); give a new --out"):
        require_same_settings(tmp_path, now, CONFIG)


def test_a_folder_that_does_not_tell_its_people_is_continued_and_then_tells_them(tmp_path: Path) -> None:
    require_same_settings(tmp_path, FIRST, CONFIG)
    file = tmp_path / "work" / "settings.json"
    settings = json.loads(file.read_text())
    del settings["identities"]
    file.write_text(json.dumps(settings))
    require_same_settings(tmp_path, FIRST[:1], CONFIG)
    with pytest.raises(UserError, match=r"carl: \+ c\.mp4"):
        require_same_settings(tmp_path, FIRST, CONFIG)


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    require_same_settings(tmp_path, FIRST, CONFIG)
    with pytest.raises(UserError, match=r"other settings \(scene_frames: 100 -> 50\)"):
        require_same_settings(tmp_path, FIRST, replace(CONFIG, scene_frames=50))
