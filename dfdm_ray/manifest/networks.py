"""Networks and people of the rows of a manifest, and what two sets of rows share."""

import hashlib
import re
from collections.abc import Collection, Mapping

import pyarrow as pa

_PEOPLE = ("target_identity", "source_identity")


def pairs_of(table: pa.Table) -> pa.Array:
    """Return the unordered pair of identities of each row, ``id0+id1``; null if one is unknown."""
    sides = zip(table["target_identity"].to_pylist(), table["source_identity"].to_pylist(), strict=True)
    pairs = ["+".join(sorted(pair, key=natural)) if None not in pair else None for pair in sides]
    return pa.array(pairs, pa.string())


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that puts ``id2/9`` before ``id2/10``."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def networks_of(rows: pa.Table) -> list[str]:
    """Return the network of each row: generator and unordered pair, ``iae id0+id1``.

    Where a person is unknown, as in real videos, it is the target, else the id of the video.
    """
    columns = (rows[name].to_pylist() for name in ("generator", "target_identity", "video_id"))
    return [
        f"{generator} {pair}" if pair else target or video
        for pair, generator, target, video in zip(pairs_of(rows).to_pylist(), *columns, strict=True)
    ]


def directions_of(rows: pa.Table) -> list[str]:
    """Return target and source of each row, ``id0<id1``."""
    sides = (rows[name].to_pylist() for name in _PEOPLE)
    return [f"{target}<{source}" for target, source in zip(*sides, strict=True)]


def traces(rows: pa.Table) -> dict[str, list[str]]:
    """Return fingerprints of the networks and of the people of ``rows``, without their names."""
    swapped = rows.filter(rows["source_identity"].is_valid())
    people = {value for name in _PEOPLE for value in rows[name].drop_null().to_pylist()}
    return {"networks": _fingerprints(networks_of(swapped)), "people": _fingerprints(people)}


def shared_with(rows: pa.Table, others: Mapping[str, Collection[str]]) -> str:
    """Return what ``rows`` share with others, by :func:`traces`: networks, people, nothing, or unknown."""
    if not others:
        return "unknown"
    own = traces(rows)
    return next((what for what in own if {*own[what]} & {*others.get(what, ())}), "nothing")


def _fingerprints(names: Collection[str]) -> list[str]:
    return sorted({hashlib.sha256(name.encode()).hexdigest()[:16] for name in names})
