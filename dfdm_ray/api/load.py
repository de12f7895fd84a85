"""Load a model."""

import os
from typing import TYPE_CHECKING, Literal, TypeVar

from dfdm_ray.config import FacesConfig, LimitsConfig, PlanConfig
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage

if TYPE_CHECKING:
    from dfdm_ray.api.model import Model

_Config = TypeVar("_Config")


def load(
    checkpoint: str | os.PathLike[str],
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 1,
    precision: Literal["fp32", "bf16"] = "fp32",
    features: bool = False,
    plan: PlanConfig | None = None,
    faces: FacesConfig | None = None,
    limits: LimitsConfig | None = None,
) -> "Model":
    """Load a checkpoint for use in this process, without Ray.

    Args:
        checkpoint: DMA-STA checkpoint from `dfdm-ray train`, or a state dict of the authors' code; a path or
            any pyarrow.fs URI.
        device: ``auto`` is a CUDA device if torch sees one, else the CPU.
        threads: Threads of the model on a CPU. One gives the digits of `dfdm-ray score`; more are faster and
            may change the last digits.
        features: Whether answers contain the penultimate features.
        plan: Frames that are used. Default: those of the checkpoint, as in `dfdm-ray score`.
        faces: Detection and number of faces.
        limits: Limits for one video, which is decoded in a process of its own.

    Raises:
        UserError: If the checkpoint or the weights of the face detector cannot be used, there is no such
            device, or settings have another type.
    """
    name = os.fspath(checkpoint)
    content = storage.read_bytes(name, what="checkpoint")
    from dfdm_ray.api.model import Model  # it imports torch, which takes seconds

    return Model(
        content,
        name=name,
        device=device,
        threads=threads,
        precision=precision,
        features=features,
        plan=settings(plan, PlanConfig),
        faces=settings(faces, FacesConfig),
        limits=settings(limits, LimitsConfig),
    )


def settings(given: _Config | None, kind: type[_Config]) -> _Config:
    """Return ``given``, or the defaults of ``kind`` if it is ``None``.

    Raises:
        UserError: If ``given`` has another type.
    """
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise UserError(f"got settings as {type(given).__name__}; give a dfdm_ray.config.{kind.__name__}")
    return given
