"""Findings as a table and as JSON."""

import json
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.doctor.facts import Cluster
from dfdm_ray.jobs.doctor.findings import Finding, Status, is_green

_STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}
_NAMED = 4
"""So many nodes are named."""


def show(findings: Sequence[Finding], cluster: Cluster, console: Console) -> None:
    """Print the findings, what to do about each, and the sum of them."""
    table = Table(show_edge=False)
    for heading in ("check", "nodes", "status", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        found = finding.found + (f"\n-> {finding.fix}" if finding.fix else "")
        where = where_of(finding.nodes, cluster)
        status = Text(finding.status, style=_STYLES[finding.status])
        table.add_row(finding.check, Text(where), status, Text(found))
    console.print(table)
    say(console, summary(findings))


def where_of(nodes: Sequence[str], cluster: Cluster) -> str:
    """Return the names of ``nodes`` in few words."""
    all_nodes = [node.name for node in cluster.nodes]
    if len(all_nodes) > 1 and set(all_nodes) <= set(nodes):
        others = [name for name in nodes if name not in all_nodes]
        return ", ".join(["all", *others])
    more = len(nodes) - _NAMED
    return ", ".join(nodes[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def summary(findings: Sequence[Finding]) -> str:
    """Return one line: green or not, and why."""
    counts = Counter(finding.status for finding in findings)
    if not is_green(findings):
        return f"not ready: {counts[Status.FAIL]} failed, {counts[Status.WARN]} warnings"
    return f"ready: nothing failed, {counts[Status.WARN]} warnings"


def as_json(findings: Sequence[Finding], cluster: Cluster) -> str:
    """Return ``{"ok": ..., "nodes": [...], "findings": [...]}``."""
    nodes = [
        {"name": node.name, "cpus": node.cpus, "gpus": node.gpus, "object_store_bytes": node.store_bytes}
        for node in cluster.nodes
    ]
    listed = [
        {
            "check": finding.check,
            "status": finding.status,
            "nodes": list(finding.nodes),
            "found": finding.found,
            "fix": finding.fix or None,
        }
        for finding in findings
    ]
    return json.dumps({"ok": is_green(findings), "nodes": nodes, "findings": listed}, indent=2)
