"""Model stage: from the crops of each face to the generator that made them, and to a verdict.

A row has the columns of its least innocent face.
"""

import time
from collections.abc import Iterator, Sequence
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
from dfdm_ray.models.verdict import decide, least_innocent
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
    "faces": [],
}


class AttributeClips:
    """Ray Data actor: turns :data:`schemas.CLIPS` into :data:`schemas.PREDICTIONS`, row for row.

    It holds the model and scores batches of videos; rejected rows pass through.

    Args:
        name: Name of the checkpoint in messages.
        shape: Largest shape of the crops of a face, (C, T, S, S, 3).
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
        """Score the faces of ``batch``; one forward pass takes as many as there are videos."""
        rows = batch.drop_columns(["crops"]).to_pylist()
        scored = [index for index, row in enumerate(rows) if row["status"] == SCORED]
        answers: dict[int, Row] = {}
        if scored:
            started = time.perf_counter()
            clips = np.concatenate([self._clips(batch["crops"], index) for index in scored])
            scores = self._scores(clips, at_once=len(scored) * self._shape[0])
            seconds = (time.perf_counter() - started) / len(clips)
            faces = iter(self._answers(scores, rows))
            answers = {index: self._of_row(rows[index]["faces"], faces, seconds) for index in scored}
        fixed = {"scored_by": worker_name()}
        out = [
            {**row, **fixed, "true_generator": row["generator"], **answers.get(index, _NO_ANSWER)}
            for index, row in enumerate(rows)
        ]
        return pa.Table.from_pylist(out, schema=PREDICTIONS)

    def _clips(self, column: pa.ChunkedArray, row: int) -> npt.NDArray[np.uint8]:
        """Return the clips of all faces of a video, ``(n, T, S, S, 3)``."""
        return np.frombuffer(column[row].as_buffer(), dtype=np.uint8).reshape(-1, *self._shape[1:])

    def _scores(self, clips: npt.NDArray[np.uint8], *, at_once: int) -> ClipScores:
        parts = [self._scorer.score(clips[at : at + at_once]) for at in range(0, len(clips), at_once)]
        return ClipScores(*map(np.concatenate, zip(*parts, strict=True)))

    def _of_row(self, places: Sequence[Row], answers: Iterator[Row], seconds: float) -> Row:
        """Return the columns of a video whose faces are at ``places`` and have the next ``answers``."""
        faces = [{**place, **answer} for place, answer in zip(places, answers, strict=False)]
        deciding = least_innocent(faces, self._classes)
        num_clips = sum(place["num_frames_scored"] for place in places) // self._shape[1]
        work = {"deciding_face": deciding, "seconds_model": seconds * num_clips}
        return {**faces[deciding], "faces": faces, **work}

    def _answers(self, scores: ClipScores, rows: Sequence[Row]) -> list[Row]:
        """Return the answer for each face of ``rows``."""
        num_clips = [face["num_frames_scored"] // self._shape[1] for row in rows for face in row["faces"]]
        ends = np.cumsum(num_clips)[:-1]
        logits, features = (
            np.stack([of_face.mean(axis=0, dtype=np.float64) for of_face in np.split(values, ends)])
            for values in (scores.logits, scores.features)
        )
        weights = np.split(scores.temporal_attention, ends)
        probabilities = self._reference.probabilities(logits) if self._reference else softmax(logits)
        answers = [
            {
                "generator": self._classes[int(face.argmax())],
                "probability": float(probability.max()),
                "probabilities": probability.tolist(),
                "logits": face.tolist(),
                "temporal_attention": attention.ravel().tolist(),
                "features": feature.tolist() if self._keep_features else [],
            }
            for face, probability, attention, feature in zip(
                logits, probabilities, weights, features, strict=True
            )
        ]
        verdicts = verdict_columns(self._reference, self._classes, logits, features)
        return [{**answer, **verdict} for answer, verdict in zip(answers, verdicts, strict=True)]


def verdict_columns(
    reference: ReferenceSet | None, classes: Sequence[str], logits: Array, features: Array
) -> list[Row]:
    """Return the columns of the verdicts on ``N`` faces with these logits and penultimate features."""
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
