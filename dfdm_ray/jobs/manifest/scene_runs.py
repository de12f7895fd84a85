"""Scenes of a target go to the splits in runs, so that what stands next to a test scene is not learned from.

Scenes may be cut from one recording, one after the other; those of :mod:`dfdm_ray.swapping` are, without a
gap. Drawn one by one, a test scene would lie a frame away from scenes of training, and its nearest picture
among those would tell the label.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_COST_OF_EMPTY = 1e12
"""Above what any run costs."""


def choose_runs(
    counts: Floats, targets: npt.NDArray[np.int64], fractions: Floats, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the split of each scene, shape ``(G,)``.

    A target's scenes fall into one run for each split, in the order of the splits; none is empty where there
    are scenes enough. Chance says from which end. Targets are dealt one after the other. Runs end where the
    sum over splits and cells of ``(count - wanted count)^2 / videos of the target in the cell`` is least, and
    what a split then lacks, or has too much of, is set right with the next target.

    Args:
        counts: Videos of each scene in each cell, ``(G, cells)``; a target's scenes in their order.
        targets: Of each scene, ``(G,)``.
        fractions: Wanted of each split, ``(splits,)``.
        rng: Settles the ends and the order of targets.
    """
    missing = np.zeros((len(fractions), counts.shape[1]))
    filled = np.zeros(len(fractions), dtype=bool)
    chosen = np.zeros(len(counts), dtype=np.int64)
    for target in rng.permutation(np.unique(targets)):
        scenes = np.flatnonzero(targets == target)[:: rng.choice([1, -1])]
        own = counts[scenes].sum(axis=0)
        missing += fractions[:, None] * own
        needed = ~filled | (len(scenes) >= len(fractions))
        starts = _best_starts(counts[scenes], missing, 1 / np.maximum(own, 1), needed)
        for split, run in enumerate(np.split(scenes, starts[1:])):
            chosen[run] = split
            missing[split] -= counts[run].sum(axis=0)
            filled[split] |= len(run) > 0
    return chosen


def _best_starts(
    counts: Floats, missing: Floats, weights: Floats, needed: npt.NDArray[np.bool_]
) -> list[int]:
    """Return where each split's run starts among the scenes of a target.

    Args:
        counts: ``(scenes, cells)``
        missing: What each split still wants, ``(splits, cells)``.
        weights: Of the cells.
        needed: Splits whose run should not be empty.
    """
    before = np.vstack([np.zeros(counts.shape[1]), counts.cumsum(axis=0)])
    products = (before * weights) @ before.T
    squares = products.diagonal()[:, None] + products.diagonal() - 2 * products
    best = np.where(np.arange(len(before)) == 0, 0.0, np.inf)  # cost of all splits so far, by where they end
    came_from: list[npt.NDArray[np.int64]] = []
    for wanted, is_needed in zip(missing, needed, strict=True):
        linear = (before * weights) @ wanted
        cost = squares - 2 * (linear - linear[:, None])  # of a run, by its start and end
        cost[np.tril_indices_from(cost, k=-1)] = np.inf
        np.fill_diagonal(cost, _COST_OF_EMPTY if is_needed else 0.0)
        whole = best[:, None] + cost
        came_from.append(whole.argmin(axis=0))
        best = whole.min(axis=0)
    starts = [len(counts)]
    for start in reversed(came_from):
        starts.append(int(start[starts[-1]]))
    return starts[:0:-1]
