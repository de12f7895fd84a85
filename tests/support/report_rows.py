"""Rows, runs and pages made by hand, for the tests of reports."""

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from dfdm_ray.jobs.report.content import Subject, content_of
from dfdm_ray.jobs.report.page import html, pictures_of
from dfdm_ray.jobs.report.scored import ScoredRun
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import LoadedModel, random_model
from dfdm_ray.models.dma_sta import DmaStaConfig
from dfdm_ray.models.preprocessing import Preprocessing
from dfdm_ray.models.reference import ReferenceSet, fit_reference
from dfdm_ray.schemas import MANIFEST, PREDICTIONS
from support.evaluation_rows import rejected, scored

Row = dict[str, Any]
CLASSES = (*GENERATORS, "real")
HOSTILE = "<script>alert(1)</script>&\x1b[31m\x00\n\u202e\"'.mp4"


def reference(number: int = 30) -> ReferenceSet:
    """Return a reference set of ``number`` videos of each class, which the logits tell apart."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(CLASSES)), number)
    features = 4 * np.eye(len(CLASSES))[labels] + rng.normal(0, 0.5, (len(labels), len(CLASSES)))
    return fit_reference(
        name="test set",
        classes=CLASSES,
        features=features,
        logits=features,
        labels=labels.tolist(),
        networks=[f"{label} {at % 5}" for at, label in enumerate(labels)],
        directions=["a<b"] * len(labels),
        video_ids=[str(at) for at in range(len(labels))],
    )


def answered(video_id: str, verdict: str, generator: str = "iae", **facts: Any) -> Row:
    """Return a scored row with a verdict, as a checkpoint with :func:`reference` gives it."""
    fitting = {"attributed": [generator], "real": ["real"], "one_of": ["faceswap", "iae"], "unknown": []}
    share = 0.9 if generator != "real" else 0.95
    return {
        **scored(video_id, None, generator, share),
        "uri": f"/videos/{video_id}",
        "probabilities": [share if name == generator else (1 - share) / 5 for name in CLASSES],
        "logits": [2.0 if name == generator else 0.0 for name in CLASSES],
        "temporal_attention": [0.5, 0.6],
        "verdict": verdict,
        "verdict_reason": "by hand",
        "prediction_set": fitting.get(verdict, ["iae", "real"]),
        "p_values": [0.5 if name in fitting.get(verdict, ["iae", "real"]) else 0.01 for name in CLASSES],
        "unknown_score": 9.0 if verdict == "unknown" else 1.0,
        "unknown_threshold": 5.0,
        "log10_lr": 1.2,
        "reference_set": "test set",
        "pts_s": [0.0, 0.04],
        "boxes_xyxy": [[10.0, 10.0, 40.0, 50.0]] * 2,
        "landmarks": [[[18.0, 24.0], [32.0, 24.0], [25.0, 32.0], [20.0, 40.0], [30.0, 40.0]]] * 2,
        "num_faces": 1,
        "num_frames_scored": 2,
        "num_frames_in_video": 60,
        "detector": "scripted",
        **facts,
    }


def without_answer(video_id: str, code: str = "no_face") -> Row:
    return rejected(video_id, None, code) | {"uri": f"/videos/{video_id}", "detector": "scripted"}


def run_of(*rows: Row) -> ScoredRun:
    manifest = [{"video_id": row["video_id"], "uri": row["uri"], "size_bytes": 1000} for row in rows]
    record = {
        "settings": {"checkpoint_sha256": "a" * 64, "classes": list(CLASSES), "precision": "fp32"},
        "runs": [{"status": "complete", "command": ["dfdm-ray", "score", "--videos", "my videos"]}],
        "versions": {"dfdm-ray": "0.1.0"},
    }
    return ScoredRun(
        out="out",
        record=record,
        manifest=pa.Table.from_pylist(manifest, schema=MANIFEST),
        table=pa.Table.from_pylist([*rows], schema=PREDICTIONS),
        rows=tuple(rows),
    )


def subject_of(run: ScoredRun, *, judged: bool = True) -> Subject:
    config = DmaStaConfig(backbone="resnet10", num_frames=2, num_classes=len(CLASSES))
    model = LoadedModel(
        model=random_model(config, 0),
        config=config,
        classes=CLASSES,
        preprocessing=Preprocessing(crop_size=32),
        note="by hand",
        reference=reference() if judged else None,
    )
    return Subject(run=run, model=model, checkpoint="model.pt", tolerance=1e-3, occlusion=2)


JPEG = cv2.imencode(".jpg", np.zeros((60, 80, 3), np.uint8))[1].tobytes()


def maps(logits: list[float]) -> Row:
    grid = [0.1, -0.2, 0.3, 0.0]
    return {"logits": logits, "crops": [JPEG, JPEG], "frame": 1, "attention": grid, "occlusion": grid}


def made(row: Row, *, remark: str | None = None, judged: bool = True, faces: int = 1) -> tuple[Row, str]:
    """Return JSON content and page of ``row``."""
    run = run_of(row)
    seen: Row = {
        "frames": [{"pts_s": 0.04, "jpeg": JPEG, "size": [80, 60]}],
        "maps": [maps(row["logits"])] * faces,
    }
    if remark or row["status"] == "rejected":
        seen = {}
    facts = {"sha256": "b" * 64, "has_c2pa": False, "tags": {HOSTILE: HOSTILE}, "encoder_settings": HOSTILE}
    planned = run.manifest.to_pylist()[0]
    content = content_of(subject_of(run, judged=judged), row, planned, seen, facts, remark)
    return content, html(content, pictures_of(content, seen))


ROWS = {
    "attributed": answered("a.mp4", "attributed"),
    "one_of": answered("b.mp4", "one_of"),
    "real": answered("c.mp4", "real", "real"),
    "unknown": answered("d.mp4", "unknown"),
    "inconclusive": answered("e.mp4", "inconclusive"),
    "rejected": without_answer("f.mp4"),
}
