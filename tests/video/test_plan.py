import numpy as np
import pytest

from dfdm_ray.video.plan import (
    Run,
    Runs,
    cheapest_lengths,
    other_runs,
    plan_frames,
    presentation_costs,
    split_evenly,
    usable_keys,
)


def keys(*positions: int) -> np.ndarray:
    return np.array(positions, dtype=np.int64)


def runs(plan: Runs | None) -> list[tuple[int, list[int]]]:
    assert plan is not None
    return [(run.key, list(run.offsets)) for run in plan]


FIVE = [0, 1, 2, 3, 4]

KEYFRAME_RUNS = [
    # key frames, frames, wanted, runs, expected
    (keys(0, 250), 400, 10, 2, [(0, FIVE), (250, FIVE)]),  # DFDM's usual
    (keys(0), 120, 10, 2, [(0, list(range(10)))]),  # one key frame: one longer run
    (keys(0, 72, 144, 216, 288, 360, 432), 472, 10, 2, [(72, FIVE), (360, FIVE)]),  # spread
    (keys(*range(100)), 100, 4, 2, [(24, [0, 1]), (74, [0, 1])]),  # all intra
    (keys(0, 3, 6), 100, 10, 2, [(0, FIVE), (6, FIVE)]),  # runs may not overlap
    (keys(0, 396), 400, 10, 2, [(0, list(range(10)))]),  # the last run would pass the end
    (keys(0, 50), 100, 5, 2, [(0, [0, 1, 2]), (50, [0, 1])]),  # an odd number
    (keys(0, 50), 100, 1, 2, [(50, [0])]),  # fewer frames than runs: one, from the middle
    (keys(7), 20, 10, 2, [(7, list(range(10)))]),  # the first frames cannot be decoded
]


@pytest.mark.parametrize(("positions", "frames", "wanted", "num_runs", "expected"), KEYFRAME_RUNS)
def test_runs_start_at_key_frames_spread_over_the_video(
    positions: np.ndarray, frames: int, wanted: int, num_runs: int, expected: list[tuple[int, list[int]]]
) -> None:
    plan = plan_frames("keyframe_runs", positions, num_frames=frames, wanted=wanted, runs=num_runs)
    assert runs(plan) == expected
    assert plan is not None
    assert sum(len(run.offsets) for run in plan) == sum(run.num_decoded for run in plan) == wanted


@pytest.mark.parametrize("strategy", ["keyframe_runs", "head", "uniform"])
@pytest.mark.parametrize(
    ("positions", "frames"),
    [
        (keys(0), 9),  # a frame short
        (keys(), 100),  # nothing to start from
        (keys(95), 100),  # the only key frame is too near the end
    ],
)
def test_too_short_a_video_has_no_plan(strategy: str, positions: np.ndarray, frames: int) -> None:
    assert plan_frames(strategy, positions, num_frames=frames, wanted=10, runs=2) is None


def test_head_takes_the_first_frames() -> None:
    assert runs(plan_frames("head", keys(0, 250), num_frames=400, wanted=3, runs=2)) == [(0, [0, 1, 2])]


def test_uniform_reaches_each_frame_from_the_key_frame_before_it() -> None:
    plan = plan_frames("uniform", keys(0, 250), num_frames=400, wanted=4, runs=2)
    assert runs(plan) == [(0, [50, 150]), (250, [0, 100])]
    assert plan is not None
    assert [run.num_decoded for run in plan] == [151, 101]


def test_an_unknown_strategy_is_a_bug() -> None:
    with pytest.raises(ValueError, match="'random'"):
        plan_frames("random", keys(0), num_frames=9, wanted=1, runs=1)


def test_other_runs_come_farthest_first_and_never_overlap() -> None:
    positions = keys(0, 3, 40, 60, 90, 150)
    plan = (Run(key=40, offsets=tuple(range(5))),)
    assert [run.key for run in other_runs(plan, positions, num_frames=180)] == [150, 90, 0, 60]


def test_a_video_with_one_key_frame_has_no_other_runs() -> None:
    plan = (Run(key=0, offsets=tuple(range(10))),)
    assert list(other_runs(plan, keys(0), num_frames=120)) == []
    assert list(other_runs(plan, keys(0, 4, 8), num_frames=120)) == []  # too near to the run at 0


def test_usable_keys_leave_room_for_a_run() -> None:
    assert usable_keys(keys(0, 2, 5, 9, 97), num_frames=100, run_length=5).tolist() == [0, 5]


@pytest.mark.parametrize(("total", "parts", "expected"), [(10, 3, [4, 3, 3]), (2, 2, [1, 1]), (7, 1, [7])])
def test_an_even_split_differs_by_at_most_one(total: int, parts: int, expected: list[int]) -> None:
    assert split_evenly(total, parts) == expected


COSTS = [
    # pts in decode order, discarded, last dts, expected
    ([0, 1, 2, 3], [], None, [1, 2, 3, 4]),  # no B-frames
    ([0, 4, 2, 1, 3], [], None, [1, 4, 4, 5, 5]),  # a pyramid
    ([0, 3, 1, 2, 6, 4, 5], [], None, [1, 3, 4, 4, 6, 7, 7]),  # P-frames of two mini-GOPs
    ([0, 4, 2, 1, 3], [], 2, [1, 4, 4]),  # more packets follow: what shows after 2 is not sure yet
    ([0, 4, 2, 1, 3], [0], None, [4, 4, 5, 5]),  # an edit list hides the first frame
    ([], [], None, []),
]


@pytest.mark.parametrize(("pts", "hidden", "last_dts", "expected"), COSTS)
def test_the_cost_of_showing_frames_counts_packets_stored_before_them(
    pts: list[int], hidden: list[int], last_dts: int | None, expected: list[int]
) -> None:
    discarded = [index in hidden for index in range(len(pts))]
    assert presentation_costs(pts, discarded, last_dts=last_dts) == expected


LENGTHS = [
    # costs by run, total, expected
    ([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]], 6, [3, 3]),  # nothing to save: even
    ([[1, 4, 4, 4, 8, 8], [1, 2, 3, 4, 5, 6]], 6, [4, 2]),  # the first run is cheap at 4
    ([[1, 2], [1, 2]], 10, [5, 5]),  # not known far enough: even, and the decoder will find out
    ([[1, 2, 3]], 2, [2]),
]


@pytest.mark.parametrize(("costs", "total", "expected"), LENGTHS)
def test_run_lengths_shift_to_save_decoding(costs: list[list[int]], total: int, expected: list[int]) -> None:
    assert cheapest_lengths(costs, total=total) == expected
