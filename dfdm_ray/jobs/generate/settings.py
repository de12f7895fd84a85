"""Settings and identities on which the files of ``generate`` depend."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dfdm_ray.engine.folder import RECORD, OutputFolder
from dfdm_ray.engine.record import changes, read_record
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.identity import fingerprint_of, look_at
from dfdm_ray.jobs.generate.config import EARLIER, GenerateConfig
from dfdm_ray.jobs.generate.plan import Identity

_TRAINED_WITH = ("smoothing", "max_frames", "detector", "train", "seed")
"""Settings that the networks depend on."""
_CONTENTS = "contents."
"""Prefix of the fingerprints of the videos: ``contents.anna.0``."""
_EARLIER_RECORD = "work/settings.json"
"""Record of earlier versions."""


def dataset_folder(root: Path, identities: Sequence[Identity], config: GenerateConfig) -> OutputFolder:
    """Return the output folder; its files depend on settings and on identities, whose order numbers them."""
    videos = _flat({"identities": {one.name: one.videos for one in identities}})
    stored = {}
    if not (root / RECORD).exists() and (root / _EARLIER_RECORD).exists():
        stored = videos | _stored_settings(root)
        OutputFolder(str(root), job="generate", settings=stored).write_record({"runs": []})
    elif (root / RECORD).exists():
        stored = dict(read_record(str(root / RECORD), lenient=True).get("settings", {}))
    settings = _settings(config, (*_TRAINED_WITH, "scene_frames"), stored) | videos
    settings |= _contents(stored, identities)
    return OutputFolder(str(root), job="generate", settings=settings)


def not_stored(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what earlier versions did not store: fingerprints of the videos, and newer settings."""
    return _flat({"train": EARLIER}) | {
        name: value for name, value in settings.items() if name.startswith(_CONTENTS)
    }


def _contents(stored: Mapping[str, Any], identities: Sequence[Identity]) -> dict[str, Any]:
    """Return the fingerprint of each video; the stored one if the video cannot be read now."""
    uris = {f"{_CONTENTS}{one.name}.{at}": uri for one in identities for at, uri in enumerate(one.videos)}
    found = {
        name: fingerprint_of(file) if file else None
        for name, file in zip(uris, look_at([*uris.values()]), strict=True)
    }
    known = {name: value or stored.get(name) for name, value in found.items()}
    return {name: value for name, value in known.items() if value}


def require_networks(networks: Path, identities: Sequence[Identity], config: GenerateConfig) -> None:
    """Refuse networks of other people or settings."""
    try:
        settings = _stored_settings(networks)
        card = json.loads((networks / "dataset.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--networks {networks} is not a finished --out of `dfdm-ray generate`") from error
    now = _settings(config, _TRAINED_WITH, settings)
    earlier = not_stored({})
    if changed := changes({name: settings.get(name, earlier.get(name)) for name in now}, now):
        raise UserError(f"--networks {networks} was trained with other settings ({'; '.join(changed)})")
    if [one["videos"] for one in card["identities"]] != [list(one.videos) for one in identities]:
        raise UserError(f"--networks {networks} was trained on other --identities")


def _stored_settings(root: Path) -> dict[str, Any]:
    record = root / RECORD
    if record.exists():
        return dict(read_record(str(record))["settings"])
    return _flat(json.loads((root / _EARLIER_RECORD).read_text()))


def _settings(config: GenerateConfig, names: tuple[str, ...], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings ``names``; a file of weights counts by its SHA-256, or by its path if stored so."""
    found = _flat({name: value for name, value in asdict(config).items() if name in names})
    path = config.detector.weights
    if path is not None and stored.get("detector.weights") != path:
        content = storage.read_bytes(path, what="weights of the face detector")
        found["detector.weights"] = hashlib.sha256(content).hexdigest()
    return found


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings as one level: ``train.iterations``, ``identities.anna.0``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        if isinstance(inner, Mapping):
            found |= {
                f"{name}.{key}": leaf for key, leaf in _flat({str(k): v for k, v in inner.items()}).items()
            }
        else:
            found[name] = value
    return found
