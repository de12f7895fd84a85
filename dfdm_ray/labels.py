"""The five generators with their class order and tags in file names, and the three qualities.

Tags and folder spellings are those of the DFDM release (README of
``shanface33/Deepfake_Model_Attribution`` and the DFDM builder of
``dfwb-research/deepfake-workbench``). No other module contains a class index.
"""

import re
from enum import StrEnum
from typing import Literal


class Generator(StrEnum):
    """A face-swap autoencoder; the order is the class order of DMA-STA."""

    FACESWAP = "faceswap"
    LIGHTWEIGHT = "lightweight"
    IAE = "iae"
    DFAKER = "dfaker"
    DFL_H128 = "dfl-h128"


GENERATORS: tuple[str, ...] = tuple(str(generator) for generator in Generator)
"""Class names in class order; index ``k`` of the logits is ``GENERATORS[k]``."""

FAMILY: dict[str, str] = {
    Generator.FACESWAP: "64 pixels",
    Generator.LIGHTWEIGHT: "64 pixels",
    Generator.IAE: "64 pixels",
    Generator.DFAKER: "128 pixels",
    Generator.DFL_H128: "128 pixels",
}
"""Size of the faces that a generator draws; within a family, the last layers are nearly the same."""

Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
"""Trunks of DMA-STA. ResNet-10, which torchvision lacks, is ResNet-18 with one block per stage."""

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
    """Return the class that a user's ``name`` spells, such as ``IAE``, else ``name``; blank is ``None``.

    ``original`` stays as it is: it means real videos in most data sets, and Faceswap as a tag of DFDM.
    """
    generator = None if "original" in name.lower() else parse_generator(name)
    return name.strip() or None if generator is None else str(generator)
