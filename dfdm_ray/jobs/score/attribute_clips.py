"""Model stage: from face crops to the generator that made them."""

import time
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfdm_ray.clips.child import Row
from dfdm_ray.clips.stage import worker_name
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.models.inference import ClipScorer, ClipScores
from dfdm_ray.schemas import PREDICTIONS, SCORED

_NO_ANSWER: Row = {
    "generator": None,
    "probability": None,
    "probabilities": [],
    "logits": [],
    "temporal_attention": [],
    "seconds_model": 0.0,
}


class AttributeClips:
    """Ray Data actor: turns :data:`schemas.CLIPS` into :data:`schemas.PREDICTIONS`, row for row.

    It holds the model and scores batches of videos; rejected rows pass through.

    Args:
        name: Name of the checkpoint in messages.
        shape: Shape of a video's crops, (C, T, S, S, 3).
    """

    def __init__(
        self,
        *,
        checkpoint: bytes,
        name: str,
        shape: tuple[int, int, int, int, int],
        device: str,
        precision: Literal["fp32", "bf16"],
        compile: bool,
    ) -> None:
        loaded = load_checkpoint(checkpoint, name=name)
        self._classes = loaded.classes
        self._scorer = ClipScorer(loaded, device=device, precision=precision, compile=compile)
        self._shape = shape

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score the videos of ``batch`` in one forward pass."""
        rows = batch.drop_columns(["crops"]).to_pylist()
        scored = [index for index, row in enumerate(rows) if row["status"] == SCORED]
        answers: dict[int, Row] = {}
        if scored:
            started = time.perf_counter()
            scores = self._scorer.score(self._crops(batch["crops"], scored))
            seconds = (time.perf_counter() - started) / len(scored)
            answers = {
                index: {**answer, "seconds_model": seconds}
                for index, answer in zip(scored, self._answers(scores), strict=True)
            }
        fixed = {"scored_by": worker_name()}
        out = [
            {**row, **fixed, "true_generator": row["generator"], **answers.get(index, _NO_ANSWER)}
            for index, row in enumerate(rows)
        ]
        return pa.Table.from_pylist(out, schema=PREDICTIONS)

    def _crops(self, column: pa.ChunkedArray, rows: list[int]) -> npt.NDArray[np.uint8]:
        """Return the crops of ``n`` videos as ``(n * C, T, S, S, 3)``."""
        videos = [np.frombuffer(column[row].as_buffer(), dtype=np.uint8) for row in rows]
        return np.concatenate([video.reshape(self._shape) for video in videos])

    def _answers(self, scores: ClipScores) -> list[Row]:
        logits = scores.logits.reshape(-1, self._shape[0], len(self._classes)).mean(axis=1)
        weights = scores.temporal_attention.reshape(len(logits), -1)
        return [
            {
                "generator": self._classes[int(video.argmax())],
                "probability": float(softmax(video).max()),
                "probabilities": softmax(video).tolist(),
                "logits": video.tolist(),
                "temporal_attention": attention.tolist(),
            }
            for video, attention in zip(logits, weights, strict=True)
        ]


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return probabilities of logits of shape ``(K,)``; they sum to 1."""
    powers = np.exp(logits.astype(np.float64) - float(logits.max()))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum()
    return probabilities
