"""Content of a page as plain values: the JSON beside it, from which the page is drawn."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from dfdm_ray.engine.record import now, versions
from dfdm_ray.jobs.report import words
from dfdm_ray.jobs.report.scored import Row, ScoredRun, faces_of, verdict_of
from dfdm_ray.labels import Baseline
from dfdm_ray.models.checkpoint import LoadedModel
from dfdm_ray.models.verdict import ALPHA

FORMAT, VERSION = "dfdm-ray/report", 1
_FACTS = (
    "detector",
    "num_faces",
    "num_frames_in_video",
    "num_frames_missing",
    "num_frames_scored",
    "corrections",
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What all pages of a run have in common."""

    run: ScoredRun
    model: LoadedModel
    checkpoint: str
    """Place of the checkpoint."""
    tolerance: float
    """Largest difference of a logit at which an answer counts as equal."""
    occlusion: int


def content_of(
    subject: Subject,
    row: Row,
    planned: Row,
    seen: Mapping[str, Any],
    facts: Mapping[str, Any],
    remark: str | None,
) -> dict[str, Any]:
    """Return the content of the page of ``row``, as `schema.json` describes it.

    Args:
        planned: Row of the manifest.
        seen: Row of :data:`stages.EXPLAINED`.
        facts: Result of :func:`file_facts.facts_of`, with hash and remarks.
        remark: What is wrong with the file, if anything.
    """
    model, verdict = subject.model, verdict_of(row)
    maps = [*(seen.get("maps") or []), *[None] * len(faces_of(row))]
    faces = [_face(subject, face, found) for face, found in zip(faces_of(row), maps, strict=False)]
    names = (
        "video_id",
        "uri",
        "crf",
        "target_identity",
        "source_identity",
        "scene",
        "true_generator",
        "split",
    )
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_at": now(),
        "video": {name: row[name] for name in names},
        "file": {
            "size_bytes": planned["size_bytes"],
            "fingerprint": row["fingerprint"],
            "problem": remark,
            **({} if remark else facts),
        },
        "answer": _answer(subject, row, verdict),
        "faces": faces,
        "found": {name: row[name] for name in _FACTS},
        "reference_set": _reference(model, verdict),
        "limitations": words.limitations(
            row, model.reference, classes=model.classes, num_scored_faces=len(faces)
        ),
        "method": _method(subject),
        "repeat": _commands(subject, row),
    }


def _answer(subject: Subject, row: Row, verdict: str) -> dict[str, Any]:
    classes, reference = subject.model.classes, subject.model.reference
    return {
        "verdict": verdict,
        "headline": words.headline(verdict, row),
        "meaning": words.meaning(verdict, row, classes),
        "reason": row["reject_detail"] if verdict == "rejected" else row["verdict_reason"],
        "reject_code": row["reject_code"],
        "strength": words.strength_of(verdict, row, reference),
        "deciding_face": row.get("deciding_face"),
        "not_said": words.not_said(verdict),
    }


def _face(subject: Subject, face: Row, maps: Mapping[str, Any] | None) -> dict[str, Any]:
    verdict, reference = verdict_of(face), subject.model.reference
    p_values = face["p_values"] or [None] * len(subject.model.classes)
    both = zip(subject.model.classes, face["probabilities"], p_values, strict=True)
    classes = [
        {"name": name, "probability": probability, "p_value": p, "fits": None if p is None else p >= ALPHA}
        for name, probability, p in both
    ]
    return {
        "verdict": verdict,
        "headline": words.headline(verdict, face),
        "meaning": words.meaning(verdict, face, subject.model.classes),
        "reason": face["verdict_reason"],
        "strength": words.strength_of(verdict, face, reference),
        "generator": face["generator"],
        "family": face["family"],
        "classes": classes,
        "unknown_score": face["unknown_score"],
        "unknown_threshold": face["unknown_threshold"],
        "logits": face["logits"],
        "pts_s": face["pts_s"],
        "boxes_xyxy": face["boxes_xyxy"],
        "temporal_attention": face["temporal_attention"],
        "face_score": face["face_score"],
        "seen_again": _seen_again(subject, face, maps),
    }


def _seen_again(subject: Subject, face: Row, maps: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what was measured on the crops that were cut for the page, ``None`` without crops."""
    if maps is None:
        return None
    difference = float(np.abs(np.subtract(maps["logits"], face["logits"])).max())
    return {
        "largest_logit_difference": difference,
        "is_equal": difference <= subject.tolerance,
        "frame": maps["frame"],
        "attention": _square(maps["attention"]),
        "occlusion": _square(maps["occlusion"]),
    }


def _square(flat: Sequence[float]) -> list[list[float]]:
    side = round(len(flat) ** 0.5)
    return [
        [round(float(value), 5) for value in flat[start : start + side]]
        for start in range(0, len(flat), side or 1)
    ]


def _reference(model: LoadedModel, verdict: str) -> dict[str, Any] | None:
    if model.reference is None:
        return None
    facts, classes = model.reference.facts, model.reference.classes
    return {
        "name": model.reference.name,
        "date": facts.get("date"),
        "num_videos": facts.get("num_videos"),
        "num_networks": facts.get("num_networks"),
        "largest_log10_lr": {
            name: model.reference.log10_lr_bound(label) for label, name in enumerate(classes)
        },
        "shared_with_training": facts.get("shared_with_training"),
        "videos_sha256": facts.get("videos_sha256"),
        "temperature": model.reference.temperature,
        "unknown_score": model.reference.kind,
        "error_rates": words.error_rates(verdict, model.reference),
    }


def _method(subject: Subject) -> dict[str, Any]:
    record, backbone = subject.run.record, subject.model.config.backbone
    last = record["runs"][-1]
    return {
        "tool": "dfdm-ray",
        "tool_version": record.get("versions", {}).get("dfdm-ray", "unknown"),
        "versions": record.get("versions", {}),
        "versions_of_report": versions(),
        "checkpoint": subject.checkpoint,
        "checkpoint_sha256": subject.run.settings["checkpoint_sha256"],
        "checkpoint_note": subject.model.note,
        "network": backbone if backbone in get_args(Baseline) else f"DMA-STA on {backbone}",
        "settings": dict(subject.run.settings),
        "tolerance": subject.tolerance,
        "scored_from": last.get("started_at"),
        "scored_until": last.get("finished_at"),
    }


def _commands(subject: Subject, row: Row) -> dict[str, str]:
    out = subject.run.out
    command = subject.run.record["runs"][-1].get("command") or []
    return {
        "score": shlex.join(["dfdm-ray", *command[1:]]) if command else "",
        "report": shlex.join(["dfdm-ray", "report", out, "--videos", row["video_id"]]),
        "check": shlex.join(["dfdm-ray", "report", out, "--check", "--videos", row["video_id"]]),
    }
