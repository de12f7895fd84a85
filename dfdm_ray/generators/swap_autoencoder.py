"""Build one of the five face-swap autoencoders by name."""

from collections.abc import Callable
from contextlib import nullcontext

import torch

from dfdm_ray.errors import UserError
from dfdm_ray.generators.base import SIDES, Side, SwapAutoencoder
from dfdm_ray.generators.dfaker import Dfaker
from dfdm_ray.generators.dfl_h128 import DflH128
from dfdm_ray.generators.faceswap_original import FaceswapOriginal
from dfdm_ray.generators.iae import Iae
from dfdm_ray.generators.lightweight import Lightweight
from dfdm_ray.labels import GENERATORS, Generator, parse_generator

__all__ = ["SIDES", "Side", "SwapAutoencoder", "build_generator"]

_NETWORKS: dict[Generator, Callable[..., SwapAutoencoder]] = {
    Generator.FACESWAP: FaceswapOriginal,
    Generator.LIGHTWEIGHT: Lightweight,
    Generator.IAE: Iae,
    Generator.DFAKER: Dfaker,
    Generator.DFL_H128: DflH128,
}


def build_generator(name: Generator | str, *, width: float = 1.0, seed: int | None = None) -> SwapAutoencoder:
    """Return an untrained face-swap autoencoder.

    Args:
        name: Which of the five, in any spelling that :func:`~dfdm_ray.labels.parse_generator` knows.
        width: Multiplies every number of channels and every dense size; 1 is the published network,
            0.25 has a sixteenth of its parameters. The three image channels stay.
        seed: The same seed gives the same weights and leaves torch's global generator as it was;
            ``None`` draws from that generator.

    Raises:
        UserError: If there is no such generator, or ``width`` is not above 0.
    """
    generator = parse_generator(name)
    if generator is None:
        raise UserError(f"no generator is called {name!r}; there are {', '.join(GENERATORS)}")
    with nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return _NETWORKS[generator](width=width)
