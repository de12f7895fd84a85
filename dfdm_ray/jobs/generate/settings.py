"""What an output folder of ``generate`` was made of: whether it may be continued or its networks used."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dfdm_ray.engine.folder import changes
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.generate.config import GenerateConfig
from dfdm_ray.jobs.generate.plan import Identity, other_people

_TRAINED_WITH = ("smoothing", "max_frames", "detector", "train", "seed")
"""Settings that the networks depend on."""


def _settings(config: GenerateConfig, names: tuple[str, ...]) -> dict[str, Any]:
    settings = {name: value for name, value in asdict(config).items() if name in names}
    as_read_back: dict[str, Any] = json.loads(json.dumps(settings))
    return as_read_back


def require_same_settings(root: Path, identities: Sequence[Identity], config: GenerateConfig) -> None:
    """Write down what the files depend on: settings and identities, whose order numbers people and scenes.

    Raises:
        UserError: If those of an earlier run differ.
    """
    path = root / "work" / "settings.json"
    now = _settings(config, (*_TRAINED_WITH, "scene_frames"))
    people = {one.name: list(one.videos) for one in identities}
    if path.exists():
        before = json.loads(path.read_text())
        others = other_people(before.pop("identities", people), people)
        if others:
            raise UserError(
                f"--out {root} holds data made of other --identities ({'; '.join(others)}); give a new --out"
            )
        if changed := changes(before, now):
            raise UserError(
                f"--out {root} holds data made with other settings ({'; '.join(changed)}); give a new --out"
            )
    storage.write_atomic(str(path), json.dumps({**now, "identities": people}, indent=2).encode())


def require_networks(networks: Path, identities: Sequence[Identity], config: GenerateConfig) -> None:
    """Refuse networks of other people or settings."""
    files = (networks / "work" / "settings.json", networks / "dataset.json")
    try:
        settings, card = (json.loads(file.read_text()) for file in files)
    except (OSError, ValueError) as error:
        raise UserError(f"--networks {networks} is no finished --out of `dfdm-ray generate`") from error
    before = {name: settings[name] for name in _TRAINED_WITH}
    if changed := changes(before, _settings(config, _TRAINED_WITH)):
        raise UserError(f"--networks {networks} was trained with other settings ({'; '.join(changed)})")
    if [one["videos"] for one in card["identities"]] != [list(one.videos) for one in identities]:
        raise UserError(f"--networks {networks} was trained on other --identities")
