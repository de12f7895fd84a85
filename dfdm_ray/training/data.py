"""What each rank reads: who trains on which video at which step, and the videos as clips.

Which clips make a step depends on seed, epoch and batch size alone, not on the number of ranks, so a run
may go on with more or fewer workers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dfdm_ray.crops_dataset import pick_frames, read_crops
from dfdm_ray.training.augment import augment_clip
from dfdm_ray.training.config import ClipAugmentConfig

Order = npt.NDArray[np.int64]


def epoch_order(num_videos: int, *, batch_size: int, seed: int, epoch: int) -> Order:
    """Return which video stands where in each batch of an epoch, shape ``(steps, batch_size)``.

    Every video comes once; the last batch is filled up with videos from the start of the order, so that all
    steps are whole and nothing is dropped.
    """
    order = np.random.default_rng((seed, epoch)).permutation(num_videos)
    steps = -(-num_videos // batch_size)
    return np.resize(order, (steps, batch_size))


def rank_parts(order: Order, *, rank: int, world_size: int, parts: int) -> list[list[int]]:
    """Return a rank's share of each batch, cut into parts: lists of videos, ``steps * parts`` of them.

    Shares may differ by one clip where the ranks do not divide the batch.

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
    """The crops dataset."""
    files: tuple[str, ...]
    """As in the index, by video."""
    video_ids: tuple[str, ...]
    labels: tuple[int, ...]
    """Class of each video."""

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, kw_only=True)
class TrainingClips(Dataset[tuple[Tensor, int]]):
    """One augmented clip of each video."""

    videos: Videos
    num_frames: int
    augment: ClipAugmentConfig
    seed: tuple[int, int]
    """Of the run, and the epoch: with the video they settle a clip, whichever rank draws it."""

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, video: int) -> tuple[Tensor, int]:
        """Return a clip, uint8 ``(T, S, S, 3)``, and its class; of longer clips any frames in order."""
        rng = np.random.default_rng((*self.seed, video))
        clips = read_crops(self.videos.root, self.videos.files[video])
        clip = clips[rng.integers(len(clips))]
        frames = np.sort(rng.choice(len(clip), self.num_frames, replace=False))
        return torch.from_numpy(augment_clip(clip[frames], self.augment, rng)), self.videos.labels[video]


@dataclass(frozen=True, kw_only=True)
class WholeVideos(Dataset[tuple[Tensor, int]]):
    """All clips of each video, to be judged as ``score`` judges them."""

    videos: Videos
    num_frames: int

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, video: int) -> tuple[Tensor, int]:
        """Return a video's clips, uint8 ``(C, T, S, S, 3)``, and which video it is."""
        clips = read_crops(self.videos.root, self.videos.files[video])
        return torch.from_numpy(clips[:, pick_frames(clips.shape[1], self.num_frames)]), video


def make_loader(dataset: Dataset[Any], batches: list[list[int]], *, processes: int, device: str) -> Any:
    """Return a loader of ``batches``, given by the videos in them; ``processes`` read ahead."""
    return torch.utils.data.DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=processes,
        pin_memory=device != "cpu",
        multiprocessing_context="spawn" if processes else None,  # Ray's threads do not survive a fork
    )
