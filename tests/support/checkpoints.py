"""Checkpoints with random weights, for tests and benchmarks."""

from pathlib import Path

from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig


def write_untrained(path: Path, *, backbone: str, num_frames: int, crop_size: int) -> Path:
    """Write an untrained DMA-STA: its answers mean nothing but take as long as those of a trained one."""
    model = random_model(DmaStaConfig(backbone=backbone, num_frames=num_frames), seed=0)
    preprocessing = Preprocessing(crop_size=crop_size)
    save_checkpoint(path, model, classes=GENERATORS, preprocessing=preprocessing, note="random weights")
    return path
