"""The frame plan: integer arithmetic on a container's index, before anything is decoded.

x264 puts key frames up to 250 frames apart, and a frame can only be decoded from the key frame
before it. Ten evenly spaced frames therefore cost a decode of nearly the whole video; runs that
start at key frames cost only the frames used::

    frame     0         250        399
    key       K          K
    uniform   ..x...x...x..x...x...x     decodes ~390
    runs      xxxxx      xxxxx           decodes 10
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

LENGTH_SLACK = 2
"""How far the length of a run may depart from an even share to save decoding."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Frames reached by one forward pass from a key frame."""

    key: int
    """Position of the key frame's packet in decode order."""
    offsets: tuple[int, ...]
    """Frames wanted, counted in order of presentation from the key frame (0); ascending."""

    @property
    def num_decoded(self) -> int:
        """Frames the pass decodes; B-frames may add a few (see :func:`presentation_costs`)."""
        return self.offsets[-1] + 1


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """What will be decoded of a video."""

    runs: tuple[Run, ...]

    @property
    def num_used(self) -> int:
        """Frames wanted."""
        return sum(len(run.offsets) for run in self.runs)

    @property
    def num_decoded(self) -> int:
        """Frames decoded to get them, by the index alone."""
        return sum(run.num_decoded for run in self.runs)

    def __str__(self) -> str:
        places = ", ".join(str(run.key + run.offsets[0]) for run in self.runs)
        ratio = self.num_decoded / self.num_used
        return (
            f"{self.num_used} frames from {places}; {self.num_decoded} to decode, {ratio:.2f} for each used"
        )


def split_evenly(total: int, parts: int) -> list[int]:
    """Return ``parts`` numbers that differ by at most one and sum to ``total``, larger ones first."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def usable_keys(keys: Indices, *, num_frames: int, run_length: int) -> Indices:
    """Return the key frames whose runs of ``run_length`` frames neither overlap nor pass the end."""
    chosen: list[int] = []
    for key in keys.tolist():
        if key + run_length <= num_frames and (not chosen or key >= chosen[-1] + run_length):
            chosen.append(key)
    return np.array(chosen, dtype=np.int64)


def plan_keyframe_runs(keys: Indices, *, num_frames: int, wanted: int, runs: int) -> FramePlan | None:
    """Plan ``runs`` runs over the video, fewer and longer ones if it has fewer key frames.

    Args:
        keys: Positions of the key frames, ascending, shape ``(K,)``.
        num_frames: Frames in the video.
        wanted: Frames to use.
        runs: Runs to spread them over.

    Returns:
        The plan, or ``None`` if no key frame is followed by enough frames.
    """
    for num_runs in range(min(runs, wanted), 0, -1):
        lengths = split_evenly(wanted, num_runs)
        usable = usable_keys(keys, num_frames=num_frames, run_length=lengths[0])
        if len(usable) >= num_runs:
            middles = (2 * np.arange(num_runs) + 1) * len(usable) // (2 * num_runs)
            pairs = zip(usable[middles].tolist(), lengths, strict=True)
            return FramePlan(runs=tuple(Run(key=key, offsets=tuple(range(length))) for key, length in pairs))
    return None


def plan_head(keys: Indices, *, num_frames: int, wanted: int) -> FramePlan | None:
    """Plan the first ``wanted`` frames from the first key frame."""
    if not len(keys) or keys[0] + wanted > num_frames:
        return None
    return FramePlan(runs=(Run(key=int(keys[0]), offsets=tuple(range(wanted))),))


def plan_uniform(keys: Indices, *, num_frames: int, wanted: int) -> FramePlan | None:
    """Plan ``wanted`` evenly spaced frames, each reached from the key frame before it."""
    if not len(keys) or num_frames - keys[0] < wanted:
        return None
    first = int(keys[0])
    targets = first + (2 * np.arange(wanted) + 1) * (num_frames - first) // (2 * wanted)
    governing = keys[np.searchsorted(keys, targets, side="right") - 1]
    runs = [
        Run(key=int(key), offsets=tuple((targets[governing == key] - key).tolist()))
        for key in np.unique(governing)
    ]
    return FramePlan(runs=tuple(runs))


def plan_frames(strategy: str, keys: Indices, *, num_frames: int, wanted: int, runs: int) -> FramePlan | None:
    """Plan by the strategy's name; see :class:`dfdm_ray.config.PlanConfig`."""
    if strategy == "keyframe_runs":
        return plan_keyframe_runs(keys, num_frames=num_frames, wanted=wanted, runs=runs)
    if strategy == "head":
        return plan_head(keys, num_frames=num_frames, wanted=wanted)
    if strategy == "uniform":
        return plan_uniform(keys, num_frames=num_frames, wanted=wanted)
    raise ValueError(f"unknown frame plan {strategy!r}")


def other_runs(plan: FramePlan, keys: Indices, *, num_frames: int) -> Iterator[Run]:
    """Yield runs at key frames the plan leaves out, farthest from all earlier ones first."""
    length = max(len(run.offsets) for run in plan.runs)
    taken = [run.key for run in plan.runs]
    rest = usable_keys(keys, num_frames=num_frames, run_length=length)
    distance = np.abs(rest[:, None] - np.array(taken)[None, :]).min(axis=1) if len(rest) else rest
    while len(rest) and distance.max() >= length:
        farthest = int(distance.argmax())
        yield Run(key=int(rest[farthest]), offsets=tuple(range(length)))
        distance = np.minimum(distance, np.abs(rest - rest[farthest]))


def presentation_costs(pts: Sequence[int], discarded: Sequence[bool], *, last_dts: int | None) -> list[int]:
    """How many packets must be decoded to show the first ``n`` frames, for ``n`` = 1, 2, ...

    B-frames are stored after the frames they refer to, so the cost may run ahead of ``n``::

        decode order   I0 P4 B2 B1 B3      n      1  2  3  4  5
        shown at        0  4  2  1  3      cost   1  4  4  5  5

    Args:
        pts: Presentation times of the packets in decode order, from a key frame on.
        discarded: Whether a packet is decoded but, by an edit list, never shown.
        last_dts: Decode time of the last packet, ``None`` if the stream ends with it.

    Returns:
        One cost for each frame known to be next; a packet shows no earlier than its decode time,
        so frames later than ``last_dts`` stay open: one still to come may be shown before them.
    """
    order = [index for index in np.argsort(np.asarray(pts), kind="stable").tolist() if not discarded[index]]
    if last_dts is not None:
        order = [index for index in order if pts[index] <= last_dts]
    return list(accumulate((index + 1 for index in order), max))


def cheapest_lengths(costs: Sequence[Sequence[int]], *, total: int) -> list[int]:
    """Choose run lengths that sum to ``total`` and decode the fewest frames beyond it.

    Args:
        costs: For each run, the cost of its first ``n`` frames (see :func:`presentation_costs`).
        total: Frames wanted in all.

    Returns:
        A length for each run, as even as the lowest cost allows; even shares if the costs known
        do not reach.
    """
    even = split_evenly(total, len(costs))
    best: dict[int, tuple[int, int, list[int]]] = {0: (0, 0, [])}
    for share, cost in zip(even, costs, strict=True):
        lengths = [n for n in range(max(1, share - LENGTH_SLACK), share + LENGTH_SLACK + 1) if n <= len(cost)]
        step: dict[int, tuple[int, int, list[int]]] = {}
        for used, (spent, uneven, chosen) in best.items():
            for n in lengths:
                option = (spent + cost[n - 1], uneven + (n - share) ** 2, [*chosen, n])
                if used + n not in step or option < step[used + n]:
                    step[used + n] = option
        best = step
    return best[total][2] if total in best else even
