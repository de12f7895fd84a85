"""A look at every node of a cluster, and what is wrong with it.

::

    one task a node (no CPU) -> facts -\
    this process             -> facts --> checks -> findings -> table or JSON
"""

import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout, suppress
from threading import Event
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from dfdm_ray.engine.progress import Show, Work, progress
from dfdm_ray.engine.session import alive_nodes, chosen_address, ray_session
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import SafeConsole
from dfdm_ray.jobs.doctor import checks, inputs, machine_checks, probe, report, storage_checks, storage_probe
from dfdm_ray.jobs.doctor.config import DoctorConfig
from dfdm_ray.jobs.doctor.facts import Cluster, Node, Told
from dfdm_ray.jobs.doctor.findings import Finding, is_green, merged

_CHECKS: tuple[Callable[[Cluster], Iterator[Finding]], ...] = (
    checks.check_answers,
    checks.check_package,
    checks.check_versions,
    machine_checks.check_gpus,
    machine_checks.check_object_store,
    machine_checks.check_disks,
    machine_checks.check_token,
    storage_checks.check_storage,
)


def doctor(config: DoctorConfig, console: Console) -> bool:
    """Print what is wrong with the cluster and what helps, and return whether no check failed.

    Raises:
        UserError: If there is no cluster at the address, or a URI is none.
    """
    for uri in (*config.reads, *config.writes, *config.driver_writes):
        storage.require_known(uri)
    local = not ray.is_initialized() and chosen_address(config.ray_address) == "local"
    # Ray prints to stdout when a node dies.
    quiet = redirect_stdout(sys.stderr) if config.json else nullcontext()
    with quiet, ray_session(config.ray_address, worker_output=False):
        cluster = examine(config, local=local, console=SafeConsole(stderr=True) if config.json else console)
    findings = merged(
        [
            *(finding for check in _CHECKS for finding in check(cluster)),
            *inputs.check_checkpoint(config, driver=cluster.driver.name),
            *inputs.check_detector(config, driver=cluster.driver.name),
        ]
    )
    if config.json:
        sys.stdout.write(report.as_json(findings, cluster) + "\n")
    else:
        report.show(findings, cluster, console)
    return is_green(findings)


def examine(config: DoctorConfig, *, local: bool, console: Console) -> Cluster:
    """Return what the nodes of the joined Ray and this process tell."""
    nodes = alive_nodes()
    reads, writes = _absolute(config.reads), _absolute(config.writes)
    name = f".dfdm-ray-doctor-{uuid.uuid4().hex}"
    work = Work(planned=len(nodes), unit="nodes")
    with ExitStack() as marks, progress(work, console, title="nodes looked at") as show:
        show(note="waiting for this machine" if local else f"waiting for {len(nodes)} nodes")
        errors = {uri: _mark(marks, uri, name, config.timeout_s) for uri in writes}
        errors |= {uri: _mark(marks, uri, name, config.timeout_s) for uri in _absolute(config.driver_writes)}
        marked = [uri for uri in writes if errors[uri] is None]
        asked = {"reads": reads, "writes": writes, "marks": marked, "name": name}
        pending = _ask(nodes, storage=asked, timeout_s=config.timeout_s)
        told = probe.look(
            session=None,
            timeout_s=config.timeout_s,
            modules=() if local else probe.MODULES,
            storage={**asked, "writes": ()},
        )
        told["storage"] += [{"uri": uri, "use": "writes", "error": error} for uri, error in errors.items()]
        answers = _gather(pending, work, show, timeout_s=config.timeout_s)
    names = ["this machine"] if local else node_names(nodes)
    return Cluster(
        driver=Node(name=names[0] if local else "driver", told=Told.from_plain(told)),
        nodes=tuple(
            _node(node, name, answers[node["NodeID"]]) for node, name in zip(nodes, names, strict=True)
        ),
        local=local,
    )


def node_names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the addresses of nodes, with the begin of their ids where several have the same."""
    times = Counter(node["NodeManagerAddress"] for node in nodes)
    return [
        address if times[address] == 1 else f"{address} {node['NodeID'][:6]}"
        for node in nodes
        for address in [node["NodeManagerAddress"]]
    ]


def _absolute(uris: Sequence[str]) -> list[str]:
    return [storage.absolute(uri) for uri in uris]


def _mark(marks: ExitStack, uri: str, name: str, timeout_s: float) -> str | None:
    """Put a file called ``name`` into the folder ``uri`` until ``marks`` ends; return why that fails."""
    late = Event()

    def put() -> ExitStack:
        with ExitStack() as undo:
            undo.enter_context(storage_probe.marked(uri, name))
            return ExitStack() if late.is_set() else undo.pop_all()

    def remove() -> None:
        with suppress(OSError, UserError):
            probe.within(timeout_s, undo.close)

    try:
        undo = probe.within(timeout_s, put)
    except (OSError, UserError, ValueError) as error:
        late.set()
        return storage_probe.told(error)
    marks.callback(remove)
    return None


def _ask(nodes: Sequence[Mapping[str, Any]], **arguments: Any) -> dict[Any, str]:
    """Start a look at each node, which takes no CPU; return the ids of nodes by their answers to come."""
    pickling: Any = ray.cloudpickle
    pickling.register_pickle_by_value(probe)  # nodes may lack it
    try:
        remote: Any = ray.remote(num_cpus=0, max_retries=0)
        look = remote(probe.look)
        return {
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(session=_session_folder(node), **arguments): node["NodeID"]
            for node in nodes
        }
    finally:
        pickling.unregister_pickle_by_value(probe)


def _gather(pending: dict[Any, str], work: Work, show: Show, *, timeout_s: float) -> dict[str, Told | str]:
    """Return what each node told, or why it did not."""
    answers: dict[str, Told | str] = {}
    until = time.monotonic() + timeout_s
    while pending and time.monotonic() < until:
        done, _ = ray.wait(list(pending), timeout=min(1.0, max(0.0, until - time.monotonic())))
        answers |= {pending.pop(answer): _told(answer) for answer in done}
        work.done = len(answers)
        show()
    for answer, node in pending.items():
        ray.cancel(answer, force=True)
        answers[node] = f"no answer within {timeout_s:g} s"
    alive = {node["NodeID"] for node in alive_nodes()}
    died = [node for node, answer in answers.items() if isinstance(answer, str) and node not in alive]
    return answers | dict.fromkeys(died, "the node died meanwhile")


def _told(answer: Any) -> Told | str:
    try:
        return Told.from_plain(ray.get(answer))
    except ray.exceptions.RayError as error:
        said = " ".join(str(error).split())
        return f"{type(error).__name__}: {said:.300}"


def _node(node: Mapping[str, Any], name: str, answer: Told | str) -> Node:
    has = node["Resources"]
    return Node(
        name=name,
        told=answer if isinstance(answer, Told) else None,
        silence=answer if isinstance(answer, str) else "",
        cpus=has.get("CPU", 0.0),
        gpus=has.get("GPU", 0.0),
        store_bytes=int(has.get("object_store_memory", 0)),
    )


def _session_folder(node: Mapping[str, Any]) -> str:
    return os.path.dirname(os.path.dirname(str(node["ObjectStoreSocketName"])))
