"""Counters of a run: Ray's metrics, for dashboards, and survived faults, for ``run.json``.

The driver counts, because every row reaches it once, even if workers made it twice. The dashboard
``cluster/grafana/dfdm-ray.json`` draws the metrics.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.core.generated import common_pb2
from ray.util import metrics

from dfdm_ray.clips.sandbox import LAYERS
from dfdm_ray.errors import RejectCode
from dfdm_ray.io.object_store import drain_failures

_messages: Any = common_pb2  # made by protobuf, without types
_BOUNDS_S = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
_WORKERS = {"decode": "prepared_by", "model": "scored_by"}
_STAGES = {"decode": "seconds_decode", "detect": "seconds_detect", "model": "seconds_model"}


class Observer:
    """Counters for the rows of one run; Ray must be running.

    ``dfdm_ray_videos`` (by status and reject code), ``dfdm_ray_frames_decoded``, ``dfdm_ray_frames_used``,
    ``dfdm_ray_faults`` (by code), ``dfdm_ray_seconds`` (histogram by stage, one value per video).
    """

    def __init__(self) -> None:
        tags = ("status", "reject_code")
        self._videos = metrics.Counter("dfdm_ray_videos", "Videos with a row.", tag_keys=tags)
        self._decoded = metrics.Counter("dfdm_ray_frames_decoded", "Frames that decoders produced.")
        self._used = metrics.Counter("dfdm_ray_frames_used", "Frames cropped and used.")
        self._faults = metrics.Counter("dfdm_ray_faults", "Faults survived.", tag_keys=("code",))
        self._seconds = metrics.Histogram(
            "dfdm_ray_seconds", "Wall seconds of a video.", boundaries=_BOUNDS_S, tag_keys=("stage",)
        )
        self._found: Counter[str] = Counter()
        self._rejects: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._workers: dict[str, set[str]] = {pool: set() for pool in _WORKERS}
        self._sandboxes: dict[str, set[str]] = {}
        self._dead_before = _dead_nodes()
        drain_failures()

    def rows(self, rows: pa.Table) -> None:
        """Count new rows."""
        for row in rows.drop_columns([name for name in ("crops",) if name in rows.column_names]).to_pylist():
            self._videos.inc(1, {"status": row["status"], "reject_code": row["reject_code"] or ""})
            if code := row["reject_code"]:
                self._rejects[code] += 1
                self._examples.setdefault(code, f"{row['video_id']}: {row['reject_detail']}")
            for counter, name in ((self._decoded, "num_frames_decoded"), (self._used, "num_frames_scored")):
                if row[name]:
                    counter.inc(row[name])
            for stage, name in _STAGES.items():
                if name in row:
                    self._seconds.observe(row[name], {"stage": stage})
            for pool, name in _WORKERS.items():
                if row.get(name):
                    self._workers[pool].add(row[name])
            self._count_faults(row["faults"])
            if (layers := row.get("sandbox")) is not None:
                host = row["prepared_by"].rpartition(":")[0]
                self._sandboxes[host] = self._sandboxes.get(host, {*layers}) & {*layers}

    def sandboxes(self) -> dict[str, list[str]]:
        """Return the layers that confined all decoding processes of each node, by host name."""
        return {host: [name for name in LAYERS if name in held] for host, held in self._sandboxes.items()}

    def most_rejects(self) -> str:
        """Return a clause with the most frequent reject code and an example, empty without rejects."""
        return "".join(
            f"most often {code} ({number}, such as {self._examples[code]}); "
            for code, number in self._rejects.most_common(1)
        )

    def bugs(self) -> str | None:
        """Return a line about videos that triggered a bug, if there are any."""
        code = RejectCode.INTERNAL_ERROR
        if not (number := self._rejects[code]):
            return None
        return (
            f"{number} videos triggered a bug in dfdm-ray and were rejected as {code}, such as "
            f"{self._examples[code]}; please report it. After an update, --retry {code} processes them again"
        )

    def survived(self, workers: Mapping[str, int]) -> dict[str, Any]:
        """Return counts of survived faults: faults by code, replaced workers, lost nodes."""
        self._count_faults(drain_failures())
        replaced = {
            f"{pool}_workers_replaced": len(self._workers[pool]) - size
            for pool, size in workers.items()
            if len(self._workers[pool]) > size
        }
        lost = len(_dead_nodes() - self._dead_before)
        return {**self._found, **replaced, **({"nodes_lost": lost} if lost else {})}

    def _count_faults(self, faults: list[str]) -> None:
        for fault in faults:
            code = fault.partition(":")[0]
            self._found[code] += 1
            self._faults.inc(1, {"code": code})


def unconfined(layers: Mapping[str, Sequence[str]]) -> str | None:
    """Return a line about the nodes of :meth:`Observer.sandboxes` that lack a layer, if there are any."""
    lacks = {host: {*LAYERS} - {*held} for host, held in layers.items() if {*LAYERS} - {*held}}
    if not lacks:
        return None
    hosts, names = sorted(lacks), [name for name in LAYERS if name in set[str]().union(*lacks.values())]
    more = f" and {len(hosts) - 1} more nodes" if len(hosts) > 1 else ""
    return f"decoding processes on {hosts[0]}{more} ran without {', '.join(names)}; see SECURITY.md"


def _dead_nodes() -> set[str]:
    return lost_nodes(ray.nodes())  # type: ignore[no-untyped-call]  # Ray's gap


def lost_nodes(nodes: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the ids of dead nodes that no autoscaler removed because they were idle.

    The autoscaler of ``ray up`` has a message, no reason of its own (``ray/raylet/node_manager.cc``).
    """
    return {
        node["NodeID"]
        for node in nodes
        if not node["Alive"]
        and node["DeathReason"] != _messages.NodeDeathInfo.AUTOSCALER_DRAIN_IDLE
        and node["DeathReasonMessage"] != "Terminated by autoscaler."
    }
