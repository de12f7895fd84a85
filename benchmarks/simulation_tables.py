"""What the simulations of scale.py say beside the model, of what it wrote as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scale_model import Costs, driver_rate
from simulated import NODE_VIDEOS_S
from tables import Table, spread

_FULL = 0.9
"""Part of its limit from which something is called full."""


def driver_table(costs: Costs, runs: Sequence[Mapping[str, Any]]) -> Table:
    """What one driver passes, by the size of blocks."""
    rows = []
    for block in sorted({run["rows"] for run in runs if run["idle"]}):
        spent = [1000 * run["cpu_s"]["driver"] for run in runs if run["idle"] and run["rows"] == block]
        cells = [spread(spent, 2), f"{driver_rate(costs, rows=block):.0f}"]
        rows.append([str(block), *cells])
    headings = ["videos a block", "driver, CPU ms a video", "its limit, videos/s"]
    remark = "Measured with stages that do nothing."
    return Table(title="The driver alone", headings=headings, rows=rows, remark=remark)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """All runs of one size."""

    nodes: int
    rows: int
    raylets: int
    rates: Sequence[float]
    ideal: float
    predicted: float
    driver_share: float
    """Of one core."""
    machine_share: float
    """Of all cores of the machine that stands for the cluster."""

    @property
    def full(self) -> str:
        """What held the rate down."""
        if statistics.median(self.rates) >= _FULL * self.ideal:
            return "the nodes, as planned"
        if self.machine_share >= _FULL:
            return "this machine's CPUs"
        return "driver" if self.driver_share >= _FULL else "neither driver nor CPUs"


def simulated(costs: Costs, content: Mapping[str, Any]) -> list[Simulated]:
    """Return the simulations by size, those with idle stages left out."""
    runs = [run for run in content["runs"] if not run["idle"]]
    groups = []
    for key in sorted({(run["nodes"], run["rows"], run["raylets"]) for run in runs}):
        nodes, rows, raylets = key
        own = [run for run in runs if (run["nodes"], run["rows"], run["raylets"]) == key]
        shares = {
            part: statistics.median(run["cpu_s"][part] * run["rate"] for run in own)
            for part in ("driver", "machine")
        }
        groups.append(
            Simulated(
                nodes=nodes,
                rows=rows,
                raylets=raylets,
                rates=[run["rate"] for run in own],
                ideal=nodes * NODE_VIDEOS_S,
                predicted=min(nodes * NODE_VIDEOS_S, driver_rate(costs, rows=rows)),
                driver_share=shares["driver"],
                machine_share=shares["machine"] / content["cpus"],
            )
        )
    return groups


def simulation_table(costs: Costs, content: Mapping[str, Any]) -> Table:
    """Simulated against predicted."""
    rows = []
    for one in simulated(costs, content):
        rate = statistics.median(one.rates)
        name = f"{one.nodes}" + (f" ({one.raylets} Ray nodes)" if one.raylets > 1 else "")
        cells = [name, str(one.rows), f"{one.ideal:.0f}", f"{one.predicted:.0f}", spread(one.rates)]
        cells += [f"{rate / one.ideal:.0%}", f"{one.driver_share:.0%}", f"{one.machine_share:.0%}", one.full]
        rows.append(cells)
    headings = ["logical nodes", "videos a block", "ideal", "predicted", "simulated, videos/s", "efficiency"]
    headings += ["driver, of a core", "machine", "full first"]
    remark = (
        f"A logical node is two workers that sleep, {NODE_VIDEOS_S:g} videos/s; driver, Ray and all workers "
        f"share {content['cpus']} CPUs here."
    )
    return Table(title="Simulated", headings=headings, rows=rows, remark=remark)
