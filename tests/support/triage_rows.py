"""Runs of made-up rows, for tests and benchmarks of the index."""

from dataclasses import replace

import cv2
import numpy as np
import pyarrow as pa

from dfdm_ray.jobs.report.scored import ScoredRun, order
from dfdm_ray.jobs.report.triage import VERDICTS
from dfdm_ray.schemas import MANIFEST, THUMBNAILS
from support.report_rows import CLASSES, Row, run_of

_CODES = ("no_face", "decode_error", "too_short")


def made_run(number: int) -> ScoredRun:
    """Return a run of ``number`` rows of all verdicts, qualities and generators in twelve folders."""
    rng = np.random.default_rng(0)
    rows = sorted((_row(at, rng) for at in range(number)), key=lambda row: (order(row), row["video_id"]))
    return replace(run_of(), rows=tuple(rows), manifest=MANIFEST.empty_table())


def _row(at: int, rng: np.random.Generator) -> Row:
    verdict = VERDICTS[at % len(VERDICTS)]
    rejected = verdict == "rejected"
    generator = None if rejected else "real" if verdict == "real" else CLASSES[int(rng.integers(5))]
    return {
        "video_id": f"camera {at % 12:02d}/id{at % 37}_id{at % 11}_{at:06d}.mp4",
        "uri": f"/videos/{at}.mp4",
        "status": "rejected" if rejected else "scored",
        "reject_code": _CODES[at // len(VERDICTS) % 3] if rejected else None,
        "reject_detail": "made up" if rejected else None,
        "verdict": None if rejected else verdict,
        "verdict_reason": None if rejected else f"only {generator} has a p-value of 0.05",
        "generator": generator,
        "probability": None if rejected else float(rng.uniform(0.3, 1)),
        "log10_lr": None if rejected else float(rng.uniform(-0.5, 1.9)),
        "unknown_score": None if rejected else float(rng.uniform(0, 9)),
        "crf": (0, 10, 23, None)[at % 4],
    }


def made_thumbnails(run: ScoredRun) -> pa.Table:
    """Return a thumbnail of noise for each row, 3 kB each; few are different, to save time."""
    rng = np.random.default_rng(1)
    pictures = []
    for tone in range(24):
        noise = cv2.resize(rng.integers(0, 255, (12, 12, 3), np.uint8), (96, 96)) // 2 + 5 * tone
        pictures.append(cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())
    facts = {
        "num_frames_decoded": 1,
        "num_frames_scored": 0,
        "faults": [],
        "prepared_by": "made",
        "status": "scored",
    }
    rows = [
        {**facts, "video_id": row["video_id"], "thumbnail": pictures[at % 24]}
        for at, row in enumerate(run.rows)
    ]
    return pa.Table.from_pylist(rows, schema=THUMBNAILS)
