"""What the checks say."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Status(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    """Jobs run, but slowly, or less safely."""
    FAIL = "fail"
    """Jobs will fail, or differ from node to node."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    check: str
    status: Status
    nodes: tuple[str, ...]
    """Names of the nodes it is about."""
    found: str
    fix: str = ""
    """What to do about it; empty if nothing."""


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return ``findings`` with those that differ in nothing but their nodes made one, in order."""
    nodes: dict[Finding, list[str]] = {}
    for finding in findings:
        nodes.setdefault(replace(finding, nodes=()), []).extend(finding.nodes)
    return [replace(finding, nodes=tuple(dict.fromkeys(names))) for finding, names in nodes.items()]


def is_green(findings: Iterable[Finding]) -> bool:
    """Whether none failed."""
    return all(finding.status != Status.FAIL for finding in findings)
