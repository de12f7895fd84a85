"""Manifests of the demo: what to learn from, and what to score.

Scenes of the known pair go to train, val, calibration and test in their order. Those of the other pair are
test only.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.io import storage
from dfdm_ray.jobs.demo.pasted import METHOD
from dfdm_ray.jobs.demo.people import IDS, KNOWN
from dfdm_ray.labels import REAL
from dfdm_ray.manifest.build import build_manifest
from dfdm_ray.schemas import with_values

TEST, UNSEEN_PAIR, ORIGINALS, PASTED = "test", "unseen", "originals", METHOD
"""Splits that are scored."""
_LAST = {"train": 6, "val": 7, "calibration": 11}
"""Number of the last scene of these splits; the scenes after them are the test."""
_SCORED_CRFS = {TEST: (10, 23), UNSEEN_PAIR: (10,)}


def split_of(target: str, scene: int) -> str:
    """Return the split of a scene; ``target`` is the id of the person in it."""
    if target not in {IDS[name] for name in KNOWN}:
        return UNSEEN_PAIR
    return next((name for name, last in _LAST.items() if scene <= last), TEST)


def write_manifests(root: Path) -> tuple[str, str]:
    """Write the manifests of training and of scoring below ``root``; return their paths."""
    scenes = build_manifest(str(root / "videos")).table
    facts = zip(scenes["target_identity"].to_pylist(), scenes["scene"].to_pylist(), strict=True)
    scenes = with_values(scenes, "split", [split_of(target, int(scene)) for target, scene in facts])
    both = zip(scenes["split"].to_pylist(), scenes["crf"].to_pylist(), strict=True)
    to_score = pa.array([crf in _SCORED_CRFS.get(split, ()) for split, crf in both])
    others = build_manifest(str(root / "others")).table
    folders = [name.partition("/")[0] for name in others["video_id"].to_pylist()]
    others = with_values(others, "split", folders)
    others = with_values(others, "generator", [METHOD if one == PASTED else REAL for one in folders])
    learned, scored = str(root / "training.parquet"), str(root / "scored.parquet")
    to_crop = pc.or_(
        pc.is_in(scenes["split"], pa.array([*_LAST])),
        pc.and_(to_score, pc.equal(scenes["split"], TEST)),  # for benchmarks/shuffled_labels.py
    )
    storage.write_parquet(learned, scenes.filter(to_crop))
    storage.write_parquet(scored, pa.concat_tables([scenes.filter(to_score), others]))
    return learned, scored
