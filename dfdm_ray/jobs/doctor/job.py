"""Look at every node of a cluster and report what is wrong with it.

::

    one task per node (no CPU) -> facts -\
    this process               -> facts --> checks -> findings -> table or JSON
"""

import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dfdm_ray import assets
from dfdm_ray.engine.session import alive_nodes, chosen_address, ray_session
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import SafeConsole, say
from dfdm_ray.jobs.doctor import probe
from dfdm_ray.jobs.doctor.checks import CHECKS, Cluster, Finding, Node, Status, merged
from dfdm_ray.jobs.doctor.config import DoctorConfig

_STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}
_RESOURCES = ("CPU", "GPU", "object_store_memory")
_NUM_NAMED = 4
"""Nodes that one line of the table names; the others are counted."""


def doctor(config: DoctorConfig, console: Console) -> bool:
    """Print what is wrong with the cluster and how to fix it, and return whether no check failed.

    Raises:
        UserError: If no cluster answers at the address, or the scheme of a URI is unknown.
    """
    for uri in (*config.reads, *config.writes, *config.driver_writes):
        storage.require_known(uri)
    local = not ray.is_initialized() and chosen_address(config.ray_address) == "local"
    # Ray prints to stdout when a node dies.
    quiet = redirect_stdout(sys.stderr) if config.json else nullcontext()
    with quiet, ray_session(config.ray_address, worker_output=False):
        cluster = look(config, local=local, console=SafeConsole(stderr=True) if config.json else console)
    found = (finding for check in CHECKS for finding in check(cluster))
    findings = merged([*found, *check_files(config, driver=cluster.driver_name)])
    if config.json:
        sys.stdout.write(as_json(findings, cluster) + "\n")
    else:
        show(findings, cluster, console)
    return is_green(findings)


def look(config: DoctorConfig, *, local: bool, console: Console) -> Cluster:
    """Return what the nodes of the joined Ray and this process report."""
    reads, writes = ([storage.absolute(uri) for uri in uris] for uris in (config.reads, config.writes))
    folders = sorted({*writes, *(storage.absolute(uri) for uri in config.driver_writes)})
    nodes, mark, limit_s = alive_nodes(), f".dfdm-ray-doctor-{uuid.uuid4().hex}", config.timeout_s
    here = "this machine" if local else "driver"
    say(console, f"waiting for {here if local else f'{len(nodes)} nodes'}")
    with marks(folders, mark, timeout_s=limit_s) as marked:
        failed = {one["uri"] for one in marked if "error" in one}
        wanted = {uri: None if uri in failed else mark for uri in writes}
        pending = _ask(nodes, timeout_s=limit_s, reads=reads, writes=wanted)
        driver = probe.look(timeout_s=limit_s, modules=() if local else probe.MODULES, reads=reads)
        answers = _gather(pending, timeout_s=limit_s)
    driver["storage"] += marked
    names = [here] if local else node_names(nodes)
    described = []
    for node, name in zip(nodes, names, strict=True):
        cpus, gpus, store_bytes = (node["Resources"].get(key, 0.0) for key in _RESOURCES)
        described.append(Node(name, answers[node["NodeID"]], cpus, gpus, int(store_bytes)))
    return Cluster(nodes=tuple(described), driver=driver, driver_name=here)


def node_names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the addresses of nodes, followed by the start of the id if several nodes share the address."""
    addresses = [node["NodeManagerAddress"] for node in nodes]
    return [
        address if addresses.count(address) == 1 else f"{address} {node['NodeID'][:6]}"
        for node, address in zip(nodes, addresses, strict=True)
    ]


@contextmanager
def marks(folders: Sequence[str], name: str, *, timeout_s: float) -> Iterator[list[probe.Stored]]:
    """Keep a file called ``name`` in each of ``folders`` while the block runs; yield the result by folder.

    Storage that hangs is an error after ``timeout_s``; a file that appears there later is removed at once.
    """
    kept = [probe.marked(folder, name) for folder in folders]
    entered = [probe.begin(mark.__enter__) for mark in kept]
    try:
        on_time, marked = futures.wait(entered, timeout=timeout_s).done, []
        for folder, done in zip(folders, entered, strict=True):
            late = TimeoutError(f"no answer within {timeout_s:g} s")
            error = done.exception() if done in on_time else late
            one: probe.Stored = {"uri": folder, "use": "writes"}
            marked.append({**one, "error": probe.reason(error)} if error else one)
        yield marked
    finally:
        left = {done: probe.begin(_leave, done, mark) for done, mark in zip(entered, kept, strict=True)}
        futures.wait([leaving for done, leaving in left.items() if done.done()], timeout=timeout_s)


def _leave(entered: futures.Future[None], mark: AbstractContextManager[None]) -> None:
    if entered.exception() is None:  # waits until the file is written
        mark.__exit__(None, None, None)


def _ask(nodes: Sequence[Mapping[str, Any]], **arguments: Any) -> dict[Any, str]:
    """Start a task without CPUs on each node; return the ids of the nodes by their pending answers."""
    pickling: Any = ray.cloudpickle
    pickling.register_pickle_by_value(probe)  # nodes may lack it
    try:
        remote: Any = ray.remote(num_cpus=0, max_retries=0)
        task, pending = remote(probe.look), {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            session = os.path.dirname(os.path.dirname(str(node["ObjectStoreSocketName"])))
            answer = task.options(scheduling_strategy=there).remote(session=session, **arguments)
            pending[answer] = node["NodeID"]
        return pending
    finally:
        pickling.unregister_pickle_by_value(probe)


def _gather(pending: dict[Any, str], *, timeout_s: float) -> dict[str, Any]:
    """Return the facts of each node by its id, or a text that says why there are none."""
    answers: dict[str, Any] = {}
    done = set(ray.wait(list(pending), num_returns=len(pending), timeout=timeout_s)[0])
    for answer, node in pending.items():
        if answer not in done:
            ray.cancel(answer, force=True)
            answers[node] = f"no answer within {timeout_s:g} s"
            continue
        try:
            answers[node] = ray.get(answer)
        except ray.exceptions.RayError as error:
            answers[node] = f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
    alive = {node["NodeID"] for node in alive_nodes()}
    died = [node for node, answer in answers.items() if isinstance(answer, str) and node not in alive]
    return answers | dict.fromkeys(died, "the node died meanwhile")


def check_files(config: DoctorConfig, *, driver: str) -> Iterator[Finding]:
    """Check that the driver can read what it sends to workers: checkpoint and face detector weights."""
    if config.checkpoint is not None:
        yield _check_file("checkpoint", config.checkpoint, "dfdm-ray train", config, driver)
    asset = assets.find(assets.DETECTOR_WEIGHTS[config.detector])
    get = f"dfdm-ray assets get {asset.name}"
    if config.weights is not None:
        yield _check_file("detector", config.weights, get, config, driver)
    elif path := assets.cached(asset):
        yield Finding("detector", Status.OK, (driver,), str(path))
    else:
        found = f"{asset.name} is not in {assets.cache_folder()}; the first run tries to fetch it"
        fix = f"run `{get}` there, or copy the file from where that works"
        yield Finding("detector", Status.WARN, (driver,), found, fix)


def _check_file(check: str, uri: str, maker: str, config: DoctorConfig, driver: str) -> Finding:
    try:
        content = probe.within(config.timeout_s, lambda: storage.read_bytes(uri, what=check))
        found = f"{len(content):,} bytes"
        if check == "checkpoint":
            from dfdm_ray.models.checkpoint import load_checkpoint  # torch is slow to import

            loaded = load_checkpoint(content, name=uri)
            shape, num_classes = loaded.config, len(loaded.classes)
            found = f"{shape.backbone}, {shape.num_frames} frames, {num_classes} classes"
    except (UserError, TimeoutError) as error:
        why = f"cannot read {uri}: {error}" if isinstance(error, TimeoutError) else str(error)
        fix = f"give a file made by `{maker}`, at a path that the driver can read"
        return Finding(check, Status.FAIL, (driver,), why, fix)
    return Finding(check, Status.OK, (driver,), f"{uri}: {found}")


def show(findings: Sequence[Finding], cluster: Cluster, console: Console) -> None:
    """Print the findings with their nodes and how to fix each, and a summary."""
    table = Table(box=None, pad_edge=False)
    machines = {cluster.driver_name, *(node.name for node in cluster.nodes)}
    for heading in ("status", "check", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        where = f"\non {where_of(finding.nodes, cluster)}" if len(machines) > 1 else ""
        fix = f"\n-> {finding.fix}" if finding.fix else ""
        status = Text(finding.status, style=_STYLES[finding.status])
        table.add_row(status, finding.check, Text(finding.found + where + fix))
    console.print(table)
    counts = Counter(finding.status for finding in findings)
    outcome = "ready: nothing failed" if is_green(findings) else f"not ready: {counts[Status.FAIL]} failed"
    say(console, f"{outcome}, {counts[Status.WARN]} warnings")


def where_of(nodes: Sequence[str], cluster: Cluster) -> str:
    """Return the names of ``nodes``, shortened."""
    all_nodes = [node.name for node in cluster.nodes]
    if len(all_nodes) > 1 and set(all_nodes) <= set(nodes):
        return ", ".join(["all nodes", *(name for name in nodes if name not in all_nodes)])
    more = len(nodes) - _NUM_NAMED
    return ", ".join(nodes[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")


def as_json(findings: Sequence[Finding], cluster: Cluster) -> str:
    """Return ``{"ok": ..., "nodes": [...], "findings": [...]}``."""
    nodes = [
        {"name": node.name, "cpus": node.cpus, "gpus": node.gpus, "object_store_bytes": node.store_bytes}
        for node in cluster.nodes
    ]
    listed = [{**asdict(finding), "fix": finding.fix or None} for finding in findings]
    return json.dumps({"ok": is_green(findings), "nodes": nodes, "findings": listed}, indent=2)


def is_green(findings: Sequence[Finding]) -> bool:
    """Return whether no check failed."""
    return all(finding.status != Status.FAIL for finding in findings)
