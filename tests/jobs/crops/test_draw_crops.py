from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dfdm_ray.clips.isolation import ChildLostError
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, LimitsConfig, PlanConfig
from dfdm_ray.io.images import read_png
from dfdm_ray.jobs.crops.config import CropsConfig
from dfdm_ray.jobs.crops.job import draw_crops
from dfdm_ray.jobs.crops.work import plan_and_row


@pytest.mark.slow
def test_videos_are_drawn_from_a_decoding_process_and_others_are_told(
    carphone: Path, sky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, sheet = tmp_path / "videos.txt", tmp_path / "sheet.png"
    videos.write_text(f"{carphone}\n{sky}\n")
    config = CropsConfig(
        videos=str(videos),
        contact_sheet=str(sheet),
        plan=PlanConfig(frames=4),
        crop=CropConfig(size=64),
        limits=LimitsConfig(seconds=60),
    )
    assert draw_crops(config, Console(width=200)) == 1
    printed = capsys.readouterr().out
    assert "4 frames, planned from frame 0; 5 decoded" in printed
    assert "no_face: no face in" in printed
    assert np.ptp(read_png(sheet.read_bytes())) > 100


@pytest.mark.parametrize("pieces", [[], [b"12345678"], [b"123", b""], [b"12345678", b"no row"], [b""] * 3])
def test_an_answer_without_plan_or_row_is_a_crash(pieces: list[bytes]) -> None:
    with pytest.raises(ChildLostError):
        plan_and_row(pieces, clip_spec(PlanConfig(), FaceConfig(), CropConfig(size=64), num_frames=4))
