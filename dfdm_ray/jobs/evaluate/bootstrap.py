"""Percentile bootstrap over groups of videos.

Videos of one scene and one pair of people are near copies of each other: other generators and
qualities on the same frames. Resampling single videos would count them as independent and make
intervals too narrow, so whole groups are drawn.
"""

import numpy as np
import numpy.typing as npt

from dfdm_ray.jobs.evaluate.metrics import Array, Indices

LEVEL = 0.95
_DRAWS_AT_ONCE = 4_000_000
"""Numbers held in memory at a time: 32 MB."""


def resample(confusions: Indices, *, num_samples: int, seed: int) -> Array:
    """Draw ``G`` groups with replacement, ``num_samples`` times, and add up their confusion matrices.

    Args:
        confusions: One for each group, shape ``(G, K, K)``.
        num_samples: ``B``.
        seed: Of the draws.

    Returns:
        Shape ``(B, K, K)``.
    """
    num_groups = len(confusions)
    flat = confusions.reshape(num_groups, -1).astype(np.float64)
    random = np.random.default_rng(seed)
    share = np.full(num_groups, 1 / num_groups)
    at_once = max(1, _DRAWS_AT_ONCE // num_groups)
    sums = [
        random.multinomial(num_groups, share, size=min(at_once, num_samples - start)) @ flat
        for start in range(0, num_samples, at_once)
    ]
    return np.concatenate(sums).reshape(num_samples, *confusions.shape[1:])


def interval(values: Array, num_groups: npt.ArrayLike) -> Array:
    """Return the 95% percentile interval of resampled ``values``.

    Args:
        values: Shape ``(B, ...)``; resamples in which a value is undefined (NaN) are passed over.
        num_groups: How many groups the value rests on, shape ``(...)``.

    Returns:
        Low and high, shape ``(2, ...)``; NaN where fewer than two groups make resampling void.
    """
    tail = 50 * (1 - LEVEL)
    defined = np.isfinite(values).any(axis=0) & (np.asarray(num_groups) > 1)
    safe = np.where(defined, values, 0.0)
    return np.where(defined, np.nanpercentile(safe, [tail, 100 - tail], axis=0), np.nan)
