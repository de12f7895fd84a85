from typing import Any

import pytest
from page import markdown
from scale_model import MILLION, driver_rate
from scale_tables import predicted
from simulation_tables import simulated
from tables import Table, spread
from test_scale_model import COSTS, NODE, S3

from dfdm_ray.engine.shares import rows_of_block


def run(rate: float, *, driver_s: float, machine_s: float, nodes: int = 8, rows: int = 8) -> dict[str, Any]:
    cpu_s = {"driver": driver_s, "machine": machine_s}
    return {"nodes": nodes, "rows": rows, "raylets": 1, "idle": False, "rate": rate, "cpu_s": cpu_s}


FULL = [
    # of 128 videos/s; CPU seconds of a video: driver, machine of two CPUs
    (120.0, 0.001, 0.002, "the nodes, as planned"),
    (80.0, 0.012, 0.015, "driver"),
    (80.0, 0.005, 0.024, "this machine's CPUs"),
    (80.0, 0.005, 0.010, "neither driver nor CPUs"),
]


@pytest.mark.parametrize(("rate", "driver_s", "machine_s", "full"), FULL)
def test_what_is_full_first_is_told(rate: float, driver_s: float, machine_s: float, full: str) -> None:
    content = {"cpus": 2, "runs": [run(rate, driver_s=driver_s, machine_s=machine_s)]}
    assert [one.full for one in simulated(COSTS, content)] == [full]


def test_runs_of_one_size_stand_together() -> None:
    runs = [
        run(rate, driver_s=0.001, machine_s=0.002, nodes=n) for n, rate in ((4, 60.0), (8, 99.0), (4, 64.0))
    ]
    four, eight = simulated(COSTS, {"cpus": 2, "runs": runs})
    assert (four.nodes, four.rates, eight.rates) == (4, [60.0, 64.0], [99.0])


def test_predictions_take_the_blocks_that_score_makes() -> None:
    one = predicted(MILLION, NODE, 16, COSTS, S3)
    assert one.limits["driver"] == driver_rate(COSTS, rows=rows_of_block(10**6, workers=16 * 15))


def test_tables_become_markdown() -> None:
    table = Table(title="T", headings=["a", "$"], rows=[["x|y", "1"]], remark="so")
    assert markdown(table) == ["### T", "", "| a | \\$ |", "| --- | ---: |", "| x\\|y | 1 |", "", "so", ""]


def test_one_value_has_no_spread() -> None:
    assert (spread([3.0]), spread([1.0, 2.0, 4.0], 1)) == ("3", "2.0 ± 1.5")
