"""Names of classes: the five generators of DFDM with their tags in file names, real videos, and any others.

The three qualities of DFDM are here too.

Tags and folder spellings are those of the DFDM release (README of
``shanface33/Deepfake_Model_Attribution`` and the DFDM builder of
``dfwb-research/deepfake-workbench``). No other module contains a class index.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Literal

from dfdm_ray.errors import UserError


class Generator(StrEnum):
    """A face-swap autoencoder; the order is the class order of DMA-STA."""

    FACESWAP = "faceswap"
    LIGHTWEIGHT = "lightweight"
    IAE = "iae"
    DFAKER = "dfaker"
    DFL_H128 = "dfl-h128"


GENERATORS: tuple[str, ...] = tuple(str(generator) for generator in Generator)
"""Class names of DFDM in class order."""

REAL = "real"
"""Class of the videos that nobody swapped."""

FAMILY: dict[str, str] = {
    Generator.FACESWAP: "64 pixels",
    Generator.LIGHTWEIGHT: "64 pixels",
    Generator.IAE: "64 pixels",
    Generator.DFAKER: "128 pixels",
    Generator.DFL_H128: "128 pixels",
}
"""Size of the faces that a generator draws; within a family, the last layers are nearly the same."""


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return different ``names`` in class order: DFDM's generators, others by name, real videos."""
    found = set(names)
    known = [name for name in GENERATORS if name in found]
    others = sorted(found - {*GENERATORS, REAL})
    return (*known, *others, *([REAL] if REAL in found else []))


Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
"""Trunks of DMA-STA. ResNet-10, which torchvision lacks, is ResNet-18 with one block per stage."""

Baseline = Literal["fame", "patches", "compact"]
"""Networks to compare DMA-STA with, see :mod:`dfdm_ray.models.baselines`."""

DFDM_TAGS: dict[Generator, str] = {
    Generator.FACESWAP: "1original",
    Generator.LIGHTWEIGHT: "2lightweight",
    Generator.IAE: "3iae",
    Generator.DFAKER: "4dfaker",
    Generator.DFL_H128: "5dfl-h128",
}
"""Tag at the end of a DFDM file name."""

QUALITIES: tuple[int, ...] = (0, 10, 23)
"""The H.264 constant rate factors of DFDM; 0 is lossless."""

DFDM_VIDEOS_PER_CELL = 430
"""Published number of videos for one generator at one quality: 2,150 for a quality, 6,450 in all."""

_ALIASES = {"original": Generator.FACESWAP, "dfl128": Generator.DFL_H128, "h128": Generator.DFL_H128}


def parse_generator(name: str) -> Generator | None:
    """Return the generator of ``name`` (a DFDM tag, a folder or a plain name), or ``None``.

    Case, separators and the leading digit of a tag are ignored, as in ``4dfaker``, ``DFaker``, ``DFL-H128``
    and ``dfl_h128``.
    """
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    key = re.sub(r"^[1-5](?=[a-z])", "", key)
    for generator in Generator:
        if key == generator.replace("-", ""):
            return generator
    return _ALIASES.get(key)


def class_name(name: str) -> str | None:
    """Return the class that a user's ``name`` spells, such as ``IAE`` or ``Real``, else ``name``.

    Blank is ``None``.
    ``original`` stays as it is: it means real videos in most data sets, and Faceswap as a tag of DFDM.
    """
    if name.strip().lower() == REAL:
        return REAL
    generator = None if "original" in name.lower() else parse_generator(name)
    return name.strip() or None if generator is None else str(generator)


def merged_classes(merge: Sequence[str]) -> dict[str, str]:
    """Return the class of each generator that ``--merge`` names.

    Raises:
        UserError: If an entry does not have the form ``NAME=A,B``, or two of them name one generator.
    """
    found: dict[str, str] = {}
    for entry in merge:
        name, _, parts = (part.strip() for part in entry.partition("="))
        names = [class_name(part) for part in parts.split(",")]
        if not name or None in names or len(names) < 2:
            raise UserError(f"--merge needs NAME=GENERATOR,GENERATOR, got {entry!r}")
        if twice := [one for one in names if one in found or names.count(one) > 1]:
            raise UserError(f"--merge names {twice[0]} more than once")
        found |= {str(one): name for one in names}
    return found
