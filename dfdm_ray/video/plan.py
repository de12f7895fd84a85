"""The frame plan: integer arithmetic on the index of a container, before decoding.

x264 puts key frames up to 250 frames apart, and a frame can only be decoded from the key frame
before it. Ten evenly spaced frames therefore require decoding nearly the whole video; runs that
start at key frames require only the frames used::

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
"""Largest difference of the length of a run from an even share, to save decoding."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Frames decoded in one forward pass from a key frame."""

    key: int
    """Position of the packet of the key frame, in decode order."""
    offsets: tuple[int, ...]
    """Wanted frames, counted in order of presentation from the key frame (0), ascending."""

    @property
    def num_decoded(self) -> int:
        """Number of frames to decode; B-frames may add a few (see :func:`presentation_costs`)."""
        return self.offsets[-1] + 1


Runs = tuple[Run, ...]
"""The runs to decode of a video, in order."""


def split_evenly(total: int, parts: int) -> list[int]:
    """Return ``parts`` numbers that differ by at most one and sum to ``total``, larger ones first."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def usable_keys(keys: Indices, *, num_frames: int, run_length: int) -> Indices:
    """Return the key frames whose runs of ``run_length`` frames do not overlap or pass the end."""
    chosen: list[int] = []
    for key in keys.tolist():
        if key + run_length <= num_frames and (not chosen or key >= chosen[-1] + run_length):
            chosen.append(key)
    return np.array(chosen, dtype=np.int64)


def plan_keyframe_runs(keys: Indices, *, num_frames: int, wanted: int, runs: int) -> Runs | None:
    """Plan ``wanted`` frames in ``runs`` runs over the video, in fewer runs if it has fewer key frames.

    ``keys`` are the ascending positions of the key frames, shape ``(K,)``, here and below. The result is
    ``None`` if no key frame is followed by enough frames.
    """
    for num_runs in range(min(runs, wanted), 0, -1):
        lengths = split_evenly(wanted, num_runs)
        usable = usable_keys(keys, num_frames=num_frames, run_length=lengths[0])
        if len(usable) >= num_runs:
            middles = (2 * np.arange(num_runs) + 1) * len(usable) // (2 * num_runs)
            pairs = zip(usable[middles].tolist(), lengths, strict=True)
            return tuple(Run(key=key, offsets=tuple(range(length))) for key, length in pairs)
    return None


def plan_head(keys: Indices, *, num_frames: int, wanted: int) -> Runs | None:
    """Plan the first ``wanted`` frames from the first key frame."""
    if not len(keys) or keys[0] + wanted > num_frames:
        return None
    return (Run(key=int(keys[0]), offsets=tuple(range(wanted))),)


def plan_uniform(keys: Indices, *, num_frames: int, wanted: int) -> Runs | None:
    """Plan ``wanted`` evenly spaced frames, each decoded from the key frame before it."""
    if not len(keys) or num_frames - keys[0] < wanted:
        return None
    first = int(keys[0])
    targets = first + (2 * np.arange(wanted) + 1) * (num_frames - first) // (2 * wanted)
    governing = keys[np.searchsorted(keys, targets, side="right") - 1]
    return tuple(
        Run(key=int(key), offsets=tuple((targets[governing == key] - key).tolist()))
        for key in np.unique(governing)
    )


def plan_frames(strategy: str, keys: Indices, *, num_frames: int, wanted: int, runs: int) -> Runs | None:
    """Plan by the name of a strategy, see :class:`dfdm_ray.config.PlanConfig`."""
    if strategy == "keyframe_runs":
        return plan_keyframe_runs(keys, num_frames=num_frames, wanted=wanted, runs=runs)
    if strategy == "head":
        return plan_head(keys, num_frames=num_frames, wanted=wanted)
    if strategy == "uniform":
        return plan_uniform(keys, num_frames=num_frames, wanted=wanted)
    raise ValueError(f"unknown frame plan {strategy!r}")


def other_runs(plan: Runs, keys: Indices, *, num_frames: int) -> Iterator[Run]:
    """Yield runs at key frames that ``plan`` does not use, farthest from all earlier runs first."""
    length = max(len(run.offsets) for run in plan)
    taken = [run.key for run in plan]
    rest = usable_keys(keys, num_frames=num_frames, run_length=length)
    distance = np.abs(rest[:, None] - np.array(taken)[None, :]).min(axis=1) if len(rest) else rest
    while len(rest) and distance.max() >= length:
        farthest = int(distance.argmax())
        yield Run(key=int(rest[farthest]), offsets=tuple(range(length)))
        distance = np.minimum(distance, np.abs(rest - rest[farthest]))


def presentation_costs(pts: Sequence[int], discarded: Sequence[bool], *, last_dts: int | None) -> list[int]:
    """Return the number of packets to decode for the first ``n`` shown frames, for ``n`` = 1, 2, ...

    B-frames are stored after the frames to which they refer, so the cost may exceed ``n``::

        decode order   I0 P4 B2 B1 B3      n      1  2  3  4  5
        shown at        0  4  2  1  3      cost   1  4  4  5  5

    ``pts`` are those of the packets in decode order, from a key frame on. An edit list hides ``discarded``
    packets: they are decoded but never shown. ``last_dts`` is the decode time of the last packet, ``None`` if
    it is the last of the stream. A packet is shown no earlier than its decode time, so frames after
    ``last_dts`` are left out: a later packet may be shown before them.
    """
    order = [index for index in np.argsort(np.asarray(pts), kind="stable").tolist() if not discarded[index]]
    if last_dts is not None:
        order = [index for index in order if pts[index] <= last_dts]
    return list(accumulate((index + 1 for index in order), max))


def cheapest_lengths(costs: Sequence[Sequence[int]], *, total: int) -> list[int]:
    """Return run lengths that sum to ``total`` and have the lowest cost.

    ``costs`` are those of the first ``n`` frames of each run, from :func:`presentation_costs`. Among lengths
    of equal cost the most even ones are chosen; if too few costs are known, the result is even shares.
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
