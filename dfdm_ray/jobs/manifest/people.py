"""Partition of people into splits, so that few videos show people of two splits.

People are the nodes of a graph, the pairs in videos its edges. The best partition is NP-hard to find: here,
splits are grown from random people, then improved one person at a time; the best of several counts.
"""

import numpy as np

from dfdm_ray.jobs.manifest.partition import COST_OF_EMPTY, Floats, Ints

_NUM_STARTS = 16
_PEOPLE_IN_ALL_STARTS = 10_000
"""Bound on the number of starts times people: some 10 s."""
_WEIGHT_OF_SHARES = 3.0
"""Weight of wrong shares beside the videos left out; at 1, one split with nearly all videos costs least."""


class People:
    """Pairs of people and their videos.

    Args:
        edges: Indices of the two people of each pair, ``(E, 2)``.
        counts: Videos of each pair in each cell, ``(E, cells)``.
        fractions: Wanted share of each split, ``(S,)``.
    """

    def __init__(self, edges: Ints, counts: Floats, fractions: Floats) -> None:
        self._fractions = fractions
        self._total = counts.sum(axis=0)
        alone = edges[:, 0] == edges[:, 1]
        num_people = int(edges.max()) + 1
        self._alone = np.zeros((num_people, counts.shape[1]))
        np.add.at(self._alone, edges[alone, 0], counts[alone])
        ends = np.concatenate([edges[~alone], edges[~alone][:, ::-1]])
        order = np.argsort(ends[:, 0], kind="stable")
        starts = np.searchsorted(ends[order, 0], np.arange(1, num_people))
        self._others = np.split(ends[order, 1], starts)
        self._counts = np.split(np.concatenate([counts[~alone]] * 2)[order], starts)

    def split(self, rng: np.random.Generator) -> Ints:
        """Return the split of each person, ``(P,)``."""
        num_starts = min(_NUM_STARTS, _PEOPLE_IN_ALL_STARTS // len(self._alone) + 1)
        found = [self._improved(self._grown(rng), rng) for _ in range(num_starts)]
        return min(found, key=lambda one: one[1])[0]

    def _grown(self, rng: np.random.Generator) -> Ints:
        """Return a partition in which all splits but the largest grew from one person along the pairs."""
        weights = [one.sum(axis=1) for one in self._counts]
        degree = np.array([one.sum() for one in weights])
        chosen = np.full(len(degree), self._fractions.argmax())
        free = np.ones(len(degree), dtype=bool)
        scale = rng.uniform(0.2, 1)  # of the videos that a split will keep
        for split in np.argsort(self._fractions)[:-1]:
            pull, held = np.zeros(len(degree)), 0.0
            luck = rng.random(len(degree))
            person = int(rng.choice(np.flatnonzero(free)))
            while held < scale * self._fractions[split] * self._total.sum() and free.sum() > 1:
                chosen[person], free[person] = split, False
                held += pull[person] + self._alone[person].sum()
                np.add.at(pull, self._others[person], weights[person])
                person = int(np.where(free, 2 * pull - degree + luck, -np.inf).argmax())
        return chosen

    def _improved(self, chosen: Ints, rng: np.random.Generator) -> tuple[Ints, float]:
        """Move people to the split where the cost is least until none moves; return splits and cost."""
        each = np.eye(len(self._fractions))[:, :, None]
        held = np.zeros((len(self._fractions), len(self._total)))
        np.add.at(held, chosen, self._alone)
        for person, (others, counts) in enumerate(zip(self._others, self._counts, strict=True)):
            held[chosen[person]] += counts[chosen[others] == chosen[person]].sum(axis=0) / 2
        moved = True
        while moved:
            moved = False
            for person in rng.permutation(len(chosen)):
                gain = np.repeat(self._alone[None, person], len(held), axis=0)
                np.add.at(gain, chosen[self._others[person]], self._counts[person])
                now = chosen[person]
                rest = held - each[now] * gain
                options = rest + each * gain
                costs = self._cost(options)
                best = int(costs.argmin())
                if costs[best] < costs[now] - 1e-6:
                    chosen[person], held, moved = best, options[best], True
        return chosen, float(self._cost(held))

    def _cost(self, held: Floats) -> Floats:
        """Return the cost of splits that hold ``(..., S, cells)`` videos, in videos."""
        kept = held.sum(axis=-2)
        wanted = self._fractions[:, None] * kept[..., None, :]
        uneven = ((held - wanted) ** 2 / np.maximum(wanted, 1e-9)).sum(axis=-2)
        empty = (held.sum(axis=-1) == 0).sum(axis=-1)
        cost: Floats = (self._total - kept + _WEIGHT_OF_SHARES * uneven).sum(axis=-1) + COST_OF_EMPTY * empty
        return cost
