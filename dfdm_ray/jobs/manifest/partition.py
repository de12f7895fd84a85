"""Assignment of groups of videos to splits, from their counts alone."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COST_OF_EMPTY = 1e12
"""Cost of an empty split or run; more than any other costs."""


def choose(counts: Floats, fractions: Floats, rng: np.random.Generator) -> Ints:
    """Return the split of each group, ``(G,)``, from its videos in each cell, ``(G, cells)``.

    Greedy, largest group first: each goes to the split where the sum over cells of
    ``(count - wanted count)^2 / videos in the cell`` grows least.
    """
    order = rng.permutation(len(counts))
    # Groups of similar size (within a factor of two) stay shuffled, so that the seed matters.
    order = order[np.argsort(-np.floor(np.log2(counts.sum(axis=1)))[order], kind="stable")]
    per_cell = counts.sum(axis=0)
    missing = fractions[:, None] * per_cell
    chosen = np.zeros(len(counts), dtype=np.int64)
    empty = set(range(len(fractions)))
    for num_done, index in enumerate(order):
        growth = (counts[index] * (counts[index] - 2 * missing) / per_cell).sum(axis=1)
        if len(order) - num_done == len(empty):  # every remaining group must fill an empty split
            growth[[split for split in range(len(fractions)) if split not in empty]] = np.inf
        best = int(np.argmin(growth))
        chosen[index] = best
        missing[best] -= counts[index]
        empty.discard(best)
    return chosen


def choose_runs(counts: Floats, targets: Ints, fractions: Floats, rng: np.random.Generator) -> Ints:
    """Return the split of each scene, ``(G,)``, from its videos in each cell, ``(G, cells)``.

    The scenes of a target form one run for each split, in the order of the splits or its reverse, at
    random. No run is empty if there are enough scenes. Targets follow in random order. Runs end where
    the sum over splits and cells of ``(count - wanted count)^2 / videos of the target in the cell`` is
    least; the next target makes up for what a split lacks or has too much of. ``targets`` is the index of the
    target of each scene; the scenes of a target are in order.
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
    """Return the index of the scene at which each split's run starts, for one target.

    ``counts`` are the videos of each scene, ``(scenes, cells)``, ``missing`` those that each split still
    lacks, ``(splits, cells)``. The runs of splits in ``needed`` must not be empty.
    """
    before = np.vstack([np.zeros(counts.shape[1]), counts.cumsum(axis=0)])
    products = (before * weights) @ before.T
    squares = products.diagonal()[:, None] + products.diagonal() - 2 * products
    best = np.where(np.arange(len(before)) == 0, 0.0, np.inf)  # cost of all splits so far, by their end
    came_from: list[Ints] = []
    for wanted, is_needed in zip(missing, needed, strict=True):
        linear = (before * weights) @ wanted
        cost = squares - 2 * (linear - linear[:, None])  # of a run, by its start and end
        cost[np.tril_indices_from(cost, k=-1)] = np.inf
        np.fill_diagonal(cost, COST_OF_EMPTY if is_needed else 0.0)
        whole = best[:, None] + cost
        came_from.append(whole.argmin(axis=0))
        best = whole.min(axis=0)
    starts = [len(counts)]
    for start in reversed(came_from):
        starts.append(int(start[starts[-1]]))
    return starts[:0:-1]
