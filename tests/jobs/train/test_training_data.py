import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.crops_rows import make_crops, prepared_row

from dfdm_ray.clips import crops_dataset
from dfdm_ray.errors import UserError
from dfdm_ray.io.images import read_png
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, ClipAugmentConfig
from dfdm_ray.jobs.train.data import Reader, TrainingClips, Videos, WholeVideos, epoch_order, rank_parts


def test_an_epoch_takes_every_video_once_and_fills_the_last_batch_from_its_start() -> None:
    order = epoch_order(23, batch_size=5, seed=1, epoch=2)
    assert order.shape == (5, 5)
    flat = order.ravel()
    assert sorted(flat[:23]) == list(range(23))
    assert flat[23:].tolist() == flat[:2].tolist()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_order(50, batch_size=5, seed=1, epoch=2)
    np.testing.assert_array_equal(first, epoch_order(50, batch_size=5, seed=1, epoch=2))
    assert (first != epoch_order(50, batch_size=5, seed=1, epoch=3)).any()
    assert (first != epoch_order(50, batch_size=5, seed=2, epoch=2)).any()


def test_fewer_videos_than_a_batch_still_make_a_whole_one() -> None:
    assert sorted(set(epoch_order(3, batch_size=8, seed=0, epoch=0).ravel())) == [0, 1, 2]


@pytest.mark.parametrize(("ranks", "parts"), [(1, 1), (2, 1), (3, 1), (3, 2), (1, 10), (2, 5)])
def test_ranks_share_each_batch_out_and_take_the_same_number_of_steps(ranks: int, parts: int) -> None:
    order = epoch_order(40, batch_size=10, seed=0, epoch=0)
    shares = [rank_parts(order, rank=rank, world_size=ranks, parts=parts) for rank in range(ranks)]
    assert {len(share) for share in shares} == {len(order) * parts}
    assert all(part for share in shares for part in share)
    for step, batch in enumerate(order):
        taken = [
            video for share in shares for part in share[step * parts : (step + 1) * parts] for video in part
        ]
        assert sorted(taken) == sorted(batch)


def test_a_batch_too_small_for_its_ranks_is_reported() -> None:
    order = epoch_order(4, batch_size=4, seed=0, epoch=0)
    with pytest.raises(ValueError, match="batches of 4 are too small for 3 ranks, 2 parts each"):
        rank_parts(order, rank=0, world_size=3, parts=2)


def test_a_clip_of_fewer_frames_takes_any_of_the_stored_in_order(tmp_path: Path) -> None:
    crops = np.arange(4, dtype=np.uint8)[None, :, None, None, None] * np.ones((1, 4, 8, 8, 3), np.uint8)
    row = prepared_row(tmp_path, "a.mp4", crops)
    videos = Videos(root=str(tmp_path), files=(row["file"],), video_ids=("a.mp4",), labels=(0,))
    clips = TrainingClips(videos=videos, num_frames=2, augment=NO_AUGMENTATION, seed=0)
    drawn = set()
    for epoch in range(40):
        drawn.add(tuple(clips[epoch, 0][0][:, 0, 0, 0].tolist()))
    assert drawn == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


def require_unreadable(reader: Reader, whole: WholeVideos, video: int) -> None:
    """Read a video whose file is gone."""
    with pytest.raises(UserError, match=r"^cannot read the crops .*gone\.parquet") as raised:
        list(reader.read(whole, [[video]]))
    assert "\n" not in str(raised.value)


def test_a_video_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    videos = Videos(root=str(tmp_path), files=("gone.parquet",), video_ids=("a.mp4",), labels=(0,))
    require_unreadable(Reader(processes=0, device="cpu"), WholeVideos(videos=videos, num_frames=2), 0)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_a_process_that_reads_stays_and_gives_the_same_clips_and_the_same_mistake(tmp_path: Path) -> None:
    files = [prepared_row(tmp_path, f"{n}.mp4", make_crops(frames=4, size=32))["file"] for n in range(3)]
    videos = Videos(
        root=str(tmp_path),
        files=(*files, "gone.parquet"),
        video_ids=("a", "b", "c", "d"),
        labels=(0, 1, 0, 1),
    )
    clips = TrainingClips(videos=videos, num_frames=2, augment=ClipAugmentConfig(flip=1, jpeg=1), seed=5)
    whole = WholeVideos(videos=videos, num_frames=2)
    reader, alone = Reader(processes=1, device="cpu"), Reader(processes=0, device="cpu")
    epochs, processes = [], []
    for epoch in range(3):
        batches = [[(epoch, 2), (epoch, 0)], [(epoch, 1)]]
        for dataset, wanted in ((clips, batches), (whole, [[0, 1], [2]])):
            for (x, number), (expected, its) in zip(
                reader.read(dataset, wanted), alone.read(dataset, wanted), strict=True
            ):
                assert torch.equal(x, expected)
                assert number.tolist() == its.tolist()
        epochs.append(clips[epoch, 1][0])
        processes.append({child.pid for child in multiprocessing.active_children()})
    assert not torch.equal(*epochs[:2])
    assert processes[0] == processes[1] == processes[2] != set()
    assert os.getpid() not in {parent_of(pid) for pid in processes[0]}  # a server has imported torch for them
    require_unreadable(reader, whole, 3)


KILLED = """
import multiprocessing, os, signal, sys
from dfdm_ray.jobs.train.data import Reader, Videos, WholeVideos
if __name__ == "__main__":
    root, file = sys.argv[1:]
    videos = Videos(root=root, files=(file,), video_ids=("a",), labels=(0,))
    for _ in Reader(processes=2, device="cpu").read(WholeVideos(videos=videos, num_frames=2), [[0]] * 20):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_processes_that_read_exit_when_what_uses_them_is_killed(tmp_path: Path) -> None:
    file = prepared_row(tmp_path, "a.mp4", make_crops(frames=4, size=32))["file"]
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(tmp_path), file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = {int(pid) for pid in done.stdout.split()}
    assert len(left) == 2
    deadline = time.monotonic() + 60
    while left := {pid for pid in left if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_only_the_frames_that_are_used_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = make_crops(clips=3, frames=4, size=8)
    row = prepared_row(tmp_path, "a.mp4", crops)
    videos = Videos(root=str(tmp_path), files=(row["file"],), video_ids=("a.mp4",), labels=(0,))
    decoded = []

    def decode(picture: bytes) -> np.ndarray:
        decoded.append(picture)
        return read_png(picture)

    monkeypatch.setattr(crops_dataset, "_pixels", decode)
    clip, _ = TrainingClips(videos=videos, num_frames=2, augment=NO_AUGMENTATION, seed=0)[0, 0]
    assert any(torch.equal(clip[0], torch.from_numpy(one)) for one in crops.reshape(-1, 8, 8, 3))
    assert len(decoded) == 2
    whole, _ = WholeVideos(videos=videos, num_frames=2)[0]
    np.testing.assert_array_equal(whole.numpy(), crops[:, [0, 3]])
    assert len(decoded) == 2 + 3 * 2
