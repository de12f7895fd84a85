"""A model that attributes videos in this process, without Ray.

::

    path -> MakeClips (its own process decodes) -> AttributeClips (here) -> Answer

Both are the workers of `dfdm-ray score`. While the model is at one video, the next one is decoded.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from dfdm_ray import assets
from dfdm_ray.api.answer import Answer
from dfdm_ray.clips.child import Row
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.config import FacesConfig, LimitsConfig, PlanConfig
from dfdm_ray.engine.shares import file_limits
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.score.attribute_clips import AttributeClips
from dfdm_ray.jobs.score.settings import making_clips, other_faces
from dfdm_ray.manifest.build import video_row
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.models.preprocessing import FACE_SETTINGS
from dfdm_ray.schemas import CLIPS


class Model:
    """A loaded checkpoint, from :func:`dfdm_ray.load`.

    It keeps a process that decodes, until it is closed or deleted.
    """

    def __init__(
        self,
        checkpoint: bytes,
        *,
        name: str,
        device: str,
        threads: int,
        precision: Literal["fp32", "bf16"],
        features: bool,
        plan: PlanConfig,
        faces: FacesConfig,
        limits: LimitsConfig,
    ) -> None:
        weights = assets.read_weights(faces.detector, faces.weights)
        if faces.weights is not None:
            from dfdm_ray.clips.cut import make_detector

            make_detector(faces, weights)  # an unusable file is found here, not by the first video
        self._name, self._threads, self._closed = name, threads, False
        # One thread for the process that decodes: Linux ends a child with the thread that started it.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="dfdm-ray decoder")
        with _torch_threads(threads):
            self._loaded = load_checkpoint(checkpoint, name=name)
            spec, kwargs = making_clips(
                self._loaded, plan=plan, faces=faces, weights=weights, max_pixels=limits.max_pixels
            )
            self._make = MakeClips(**kwargs, **file_limits(limits, {}, workers=1))
            self._decoder.submit(self._make.start)
            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            self._attribute = AttributeClips(
                checkpoint=self._loaded,
                name=name,
                shape=spec.shape,
                device=device,
                precision=precision,
                compile=False,
                features=features,
            )
        _warn(name, self._loaded, {**asdict(faces), **asdict(spec)})

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the lists in a row."""
        return self._loaded.classes

    @property
    def note(self) -> str:
        """Note of the checkpoint's maker, or the assumptions made on reading it."""
        return self._loaded.note

    def attribute(self, path: str | os.PathLike[str]) -> Answer:
        """Attribute the video at ``path``, a local path or any pyarrow.fs URI.

        A file that is missing, damaged or shows no face gives an answer with the status ``rejected`` and a
        code, as in a run of `dfdm-ray score`.

        Raises:
            UserError: If ``path`` is a URI that contains a key.
        """
        (answer,) = self.attribute_many([path])
        return answer

    def attribute_many(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[Answer]:
        """Yield the answer for each of ``paths`` in turn, as :meth:`attribute` gives it.

        An answer holds its crops, so a list of all answers needs about 1.5 MB for each video.

        Raises:
            UserError: If ``paths`` is a single path or contains a URI with a key, or the model is closed.
        """
        if isinstance(paths, str | bytes | os.PathLike):
            raise UserError("attribute_many takes several paths; for one video use attribute")
        if self._closed:
            raise UserError("this model is closed; load it again")
        return self._answers(paths)

    def close(self) -> None:
        """End the process that decodes; the model cannot be used afterwards."""
        if not self._closed:
            self._closed = True
            self._decoder.submit(self._make.close)
            self._decoder.shutdown()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Model {self._name!r}: {', '.join(self.classes)}>"

    def _answers(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[Answer]:
        waiting: Future[Row] | None = None
        for path in paths:
            row = video_row(os.fspath(path), folder=os.getcwd())
            following = self._decoder.submit(self._make.clips, row)
            if waiting is not None:
                yield self._answer(waiting.result())
            waiting = following
        if waiting is not None:
            yield self._answer(waiting.result())

    def _answer(self, clips: Row) -> Answer:
        with _torch_threads(self._threads):
            table = self._attribute(pa.Table.from_pylist([clips], schema=CLIPS))
        side = self._loaded.preprocessing.crop_size
        crops = np.frombuffer(clips["crops"], np.uint8).reshape(-1, side, side, 3)
        ends = np.cumsum([face["num_frames_scored"] for face in clips["faces"]])
        of_face = np.split(crops, ends[:-1])[table["deciding_face"][0].as_py() or 0]
        return Answer(table=table, classes=self.classes, crops=of_face)


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    """Let torch use that many threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warn(name: str, loaded: LoadedModel, settings: dict[str, Any]) -> None:
    if loaded.is_bare:
        warnings.warn(f"{name} is a {loaded.note}", stacklevel=4)
    used = {key: settings[key] for key in FACE_SETTINGS}
    if others := other_faces(loaded.preprocessing, used):
        text = f"training found its faces with other settings ({'; '.join(others)})"
        warnings.warn(text, stacklevel=4)
