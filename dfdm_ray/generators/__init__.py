"""The five face-swap autoencoders of DFDM: networks, training samples, losses and conversion.

DFDM is available on request only; these autoencoders make training data of known truth for attribution.
The classes of DFDM differ in the network that drew the face. Everything here is written from figures (layer
sizes, constants, formulae) documented for ``deepfakes/faceswap`` at commit ``183aee37`` (2022-01-15); none
of its code is used. In prose, "faceswap" is that project and "Faceswap" is the generator.

All modules share one coordinate frame, so that training, conversion and paste-back agree:

* *mean-face units* (MFU): the unit square of the mean face; the eyes are 0.529 MFU apart.
* *span*: side of a square crop in MFU; *centre*: the point in the middle of the crop, in MFU.
* Matrices map continuous coordinates: the centre of the first pixel is (0.5, 0.5). The matrix for another
  crop size is the same matrix times the ratio of the sizes.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch

from dfdm_ray.generators.base import SwapAutoencoder
from dfdm_ray.generators.dfaker import Dfaker
from dfdm_ray.generators.dfl_h128 import DflH128
from dfdm_ray.generators.faceswap import Faceswap
from dfdm_ray.generators.iae import Iae
from dfdm_ray.generators.lightweight import Lightweight
from dfdm_ray.labels import Generator

_NETWORKS: dict[Generator, Callable[..., SwapAutoencoder]] = {
    Generator.FACESWAP: Faceswap,
    Generator.LIGHTWEIGHT: Lightweight,
    Generator.IAE: Iae,
    Generator.DFAKER: Dfaker,
    Generator.DFL_H128: DflH128,
}


def build_generator(name: Generator, *, width: float = 1.0, seed: int | None = None) -> SwapAutoencoder:
    """Return an untrained network.

    ``width`` is a factor above 0 on every number of channels, except those of images, and every dense size: 1
    is the published network, 0.25 has a sixteenth of its parameters. ``seed`` fixes the weights and leaves
    torch's global generator as it was; ``None`` draws from the global generator.
    """
    with nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return _NETWORKS[name](width=width)
