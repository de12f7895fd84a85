"""Model stage: from face crops to the generator that made them, and to a verdict."""

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfdm_ray.clips.child import Row
from dfdm_ray.clips.stage import worker_name
from dfdm_ray.models.calibration import softmax
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.models.inference import ClipScorer, ClipScores
from dfdm_ray.models.reference import ReferenceSet
from dfdm_ray.models.unknown import Array
from dfdm_ray.models.verdict import decide
from dfdm_ray.schemas import PREDICTIONS, SCORED

_NO_ANSWER: Row = {
    "generator": None,
    "probability": None,
    "probabilities": [],
    "logits": [],
    "temporal_attention": [],
    "seconds_model": 0.0,
    "prediction_set": [],
    "p_values": [],
    "features": [],
}


class AttributeClips:
    """Ray Data actor: turns :data:`schemas.CLIPS` into :data:`schemas.PREDICTIONS`, row for row.

    It holds the model and scores batches of videos; rejected rows pass through.

    Args:
        name: Name of the checkpoint in messages.
        shape: Shape of a video's crops, (C, T, S, S, 3).
        features: Whether rows contain the penultimate features.
    """

    def __init__(
        self,
        *,
        checkpoint: bytes | LoadedModel,
        name: str,
        shape: tuple[int, int, int, int, int],
        device: str,
        precision: Literal["fp32", "bf16"],
        compile: bool,
        features: bool = False,
    ) -> None:
        loaded = load_checkpoint(checkpoint, name=name) if isinstance(checkpoint, bytes) else checkpoint
        self._classes, self._reference = loaded.classes, loaded.reference
        self._keep_features = features
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
        logits, features = (
            values.reshape(-1, self._shape[0], values.shape[1]).mean(axis=1, dtype=np.float64)
            for values in (scores.logits, scores.features)
        )
        weights = scores.temporal_attention.reshape(len(logits), -1)
        probabilities = self._reference.probabilities(logits) if self._reference else softmax(logits)
        answers = [
            {
                "generator": self._classes[int(video.argmax())],
                "probability": float(probability.max()),
                "probabilities": probability.tolist(),
                "logits": video.tolist(),
                "temporal_attention": attention.tolist(),
                "features": feature.tolist() if self._keep_features else [],
            }
            for video, probability, attention, feature in zip(
                logits, probabilities, weights, features, strict=True
            )
        ]
        verdicts = verdict_columns(self._reference, self._classes, logits, features)
        return [{**answer, **verdict} for answer, verdict in zip(answers, verdicts, strict=True)]


def verdict_columns(
    reference: ReferenceSet | None, classes: Sequence[str], logits: Array, features: Array
) -> list[Row]:
    """Return the columns of the verdicts on ``N`` videos with these logits and penultimate features."""
    if reference is None:
        decision = decide((), classes, unknown_score=0.0, threshold=0.0)
        row = {"verdict": decision.verdict, "verdict_reason": decision.reason}
        return [{**row, "prediction_set": [], "p_values": []} for _ in logits]
    rows = []
    scores, probabilities = reference.unknown_scores(features, logits), reference.probabilities(logits)
    for p_values, score, fit in zip(reference.p_values(logits), scores, probabilities, strict=True):
        decision = decide(p_values, classes, unknown_score=float(score), threshold=reference.threshold)
        label = int(fit.argmax())
        rows.append(
            {
                "verdict": decision.verdict,
                "verdict_reason": decision.reason,
                "prediction_set": [*decision.prediction_set],
                "p_values": p_values.tolist(),
                "unknown_score": float(score),
                "unknown_threshold": reference.threshold,
                "family": decision.family,
                "log10_lr": reference.log10_lr(float(fit[label]), label),
                "reference_set": reference.name,
            }
        )
    return rows
