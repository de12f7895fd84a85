"""Input of each rank: the videos of each step, and their clips.

The clips of a step depend on seed, epoch and batch size, not on the number of ranks, so a training can
continue with more or fewer workers.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from dfdm_ray.clips.crops_dataset import decode_pictures, pick_frames, read_pictures
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.augment import Clip, augment_clip
from dfdm_ray.jobs.train.config import ClipAugmentConfig

Order = npt.NDArray[np.int64]


def epoch_order(num_videos: int, *, batch_size: int, seed: int, epoch: int) -> Order:
    """Return the video at each place of each batch of an epoch, shape ``(steps, batch_size)``.

    Every video occurs once. The last batch is filled with videos from the start of the order, so that all
    batches are full and no video is dropped.
    """
    order = np.random.default_rng((seed, epoch)).permutation(num_videos)
    steps = -(-num_videos // batch_size)
    return np.resize(order, (steps, batch_size))


def rank_parts(order: Order, *, rank: int, world_size: int, parts: int) -> list[list[int]]:
    """Return the share of a rank in each batch, cut into parts: ``steps * parts`` lists of videos.

    Shares differ by at most one clip where the number of ranks does not divide the batch.

    Raises:
        ValueError: If a part would be empty on some rank.
    """
    if order.shape[1] // world_size < parts:
        raise ValueError(
            f"batches of {order.shape[1]} are too small for {world_size} ranks, {parts} parts each"
        )
    return [part.tolist() for batch in order for part in np.array_split(batch[rank::world_size], parts)]


@dataclass(frozen=True, kw_only=True)
class Videos:
    """Videos with known generators."""

    root: str
    """URI of the crops dataset."""
    files: tuple[str, ...]
    """File of each video, relative to ``root``."""
    video_ids: tuple[str, ...]
    labels: tuple[int, ...]
    """Class of each video."""

    def __len__(self) -> int:
        return len(self.files)

    def only(self, videos: Sequence[int]) -> "Videos":
        """Return some of the videos."""
        return Videos(
            root=self.root,
            files=tuple(self.files[video] for video in videos),
            video_ids=tuple(self.video_ids[video] for video in videos),
            labels=tuple(self.labels[video] for video in videos),
        )

    def pictures(self, video: int) -> list[list[bytes]]:
        """Return the stored crops of a video: C lists of T PNG files."""
        return read_pictures(self.root, self.files[video])

    def decoded(self, video: int, pictures: list[list[bytes]]) -> Clip:
        """Return some of the :meth:`pictures` of a video as RGB, shape ``(C, T, S, S, 3)``."""
        return decode_pictures(pictures, root=self.root, file=self.files[video])


@dataclass(frozen=True, kw_only=True)
class TrainingClips(Dataset[tuple[Tensor, int]]):
    """One augmented clip of each video."""

    videos: Videos
    num_frames: int
    augment: ClipAugmentConfig
    seed: int
    """Seed of the run; with epoch and video it determines the clip on every rank."""

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, epoch_and_video: tuple[int, int]) -> tuple[Tensor, int]:
        """Return a clip, uint8 ``(T, S, S, 3)``, and its class: T random frames in order."""
        epoch, video = epoch_and_video
        rng = np.random.default_rng((self.seed, epoch, video))
        clips = self.videos.pictures(video)
        clip = clips[rng.integers(len(clips))]
        frames = np.sort(rng.choice(len(clip), self.num_frames, replace=False))
        (pixels,) = self.videos.decoded(video, [[clip[frame] for frame in frames]])
        return torch.from_numpy(augment_clip(pixels, self.augment, rng)), self.videos.labels[video]


@dataclass(frozen=True, kw_only=True)
class WholeVideos(Dataset[tuple[Tensor, int]]):
    """All clips of each video, prepared as ``score`` prepares them."""

    videos: Videos
    num_frames: int

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, video: int) -> tuple[Tensor, int]:
        """Return the clips of a video, uint8 ``(C, T, S, S, 3)``, and its number."""
        clips = self.videos.pictures(video)
        frames = pick_frames(len(clips[0]), self.num_frames)
        used = [[clip[frame] for frame in frames] for clip in clips]
        return torch.from_numpy(self.videos.decoded(video, used)), video


class Reader:
    """Reader of batches of several datasets; its processes live from one pass to the next.

    Args:
        processes: Processes that read ahead; 0: the caller reads.
        device: Type of the device that gets the batches.
    """

    def __init__(self, *, processes: int, device: str) -> None:
        self._processes = processes
        self._pin = device != "cpu"
        self._datasets: list[Dataset[Any]] = []
        self._batches: list[list[tuple[int, Any]]] = []
        self._loader: DataLoader[Any] | None = None
        _use_one_thread()

    def read(self, dataset: Dataset[Any], batches: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """Yield the ``batches``, each a list of items of ``dataset``. A pass must end before the next starts.

        Raises:
            UserError: If the dataset raises it for an item, in this or another process.
        """
        if self._loader is None or dataset not in self._datasets:
            self._datasets.append(dataset)
            self._loader = self._start()
        which = self._datasets.index(dataset)
        self._batches[:] = [[(which, item) for item in batch] for batch in batches]
        for batch in self._loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def _start(self) -> "DataLoader[Any]":
        return DataLoader(
            _Items(tuple(self._datasets)),
            batch_sampler=self._batches,
            collate_fn=_collate,
            num_workers=self._processes,
            persistent_workers=self._processes > 0,
            pin_memory=self._pin,
            multiprocessing_context=_start_method() if self._processes else None,
            worker_init_fn=_begin,
        )


def _start_method() -> BaseContext:
    """Return a way to start processes that imports torch once for all of them, in a server.

    Ray's threads survive no fork of the worker itself, and processes that each import it start one after the
    other: a minute and more for 16.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _begin(_process: int) -> None:
    """Prepare a process that reads; it exits with the process that uses it, even if that is killed."""
    _use_one_thread()
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _use_one_thread() -> None:
    cv2.setNumThreads(1)  # ranks and loaders fill the CPUs, and the pictures are small


@dataclass(frozen=True)
class _Items(Dataset[Any]):
    """Items of several datasets. A ``UserError`` is returned: a process would wrap it in a traceback."""

    datasets: tuple[Dataset[Any], ...]

    def __getitem__(self, which_and_item: tuple[int, Any]) -> Any:
        which, item = which_and_item
        try:
            return self.datasets[which][item]
        except UserError as mistake:
            return mistake


def _collate(items: list[Any]) -> Any:
    mistake = next((item for item in items if isinstance(item, UserError)), None)
    return mistake or default_collate(items)
