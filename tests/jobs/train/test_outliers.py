from pathlib import Path

import numpy as np
import pytest
from support.crops_rows import write_patterns

from dfdm_ray.clips.crops_dataset import prepared, read_index
from dfdm_ray.jobs.train.data import Videos, WholeVideos
from dfdm_ray.jobs.train.outliers import Outliers, outlier

SIDE = 96


def face(seed: int = 0) -> np.ndarray:
    """Frames with fine structure everywhere."""
    return np.random.default_rng(seed).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("redrawn", [True, False])
def test_the_face_changes_and_its_surroundings_do_not(redrawn: bool) -> None:
    frames = face()
    changed = outlier(frames, np.random.default_rng(1), redrawn=redrawn)
    difference = np.abs(changed.astype(int) - frames).mean(axis=(0, 3))
    assert changed.dtype == np.uint8
    assert difference[SIDE // 2, SIDE // 2] > 5
    assert difference[:, :8].max() == difference[:, -8:].max() == 0


def test_another_decoder_draws_a_blurred_face() -> None:
    frames = face()
    drawn = outlier(frames, np.random.default_rng(1), redrawn=True)[:, 40:60, 40:60].astype(float)
    assert drawn.std() < 0.8 * frames[:, 40:60, 40:60].std()


@pytest.mark.parametrize("redrawn", [True, False])
def test_all_frames_of_a_video_change_alike(redrawn: bool) -> None:
    frames = np.repeat(face()[:1], 3, axis=0)
    changed = outlier(frames, np.random.default_rng(1), redrawn=redrawn)
    assert (changed == changed[0]).all()


def test_outliers_are_made_of_the_clips_of_each_video_and_again_alike(tmp_path: Path) -> None:
    write_patterns(tmp_path, generators=("iae", "real"), each={"val": 2})
    index = prepared(read_index(str(tmp_path)))
    files, ids = (tuple(index[name].to_pylist()) for name in ("file", "video_id"))
    whole = WholeVideos(
        videos=Videos(root=str(tmp_path), files=files, video_ids=ids, labels=(0,) * len(files)), num_frames=2
    )
    made = Outliers(originals=whole)
    assert len(made) == len(whole)
    clips, number = made[1]
    assert (number, clips.shape) == (1, whole[1][0].shape)
    assert (clips == made[1][0]).all()
    assert not (clips == whole[1][0]).all()
