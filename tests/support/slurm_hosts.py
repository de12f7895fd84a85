"""Two hosts of a Slurm cluster on this machine: network, processes and Ray's folder are each host's own."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_JOBS = itertools.count(os.getpid() * 10)

_SRUN = """#!/bin/bash
# Runs the command on each host, below a shell that buries the dead; ends with the highest exit status
while [[ $1 == --* ]]; do shift; done
for host in $HOSTS; do
    ip netns exec "$host" unshare --mount --pid --fork --kill-child --mount-proc \\
        bash -c 'mount --bind "$0.ray" /tmp/ray && mount --bind "$0" "/tmp/ray-$SLURM_JOB_ID" && "$@"
            exit $?' "$FOLDERS/$host" "$@" &
done
status=0
for task in $(jobs -p); do
    wait "$task" || status=$(($? > status ? $? : status))
done
exit "$status"
"""
_RAY = """#!/bin/bash
# Ray without a cluster: runs the command and fails, as symmetric-run does because its cluster is gone
[[ $1 == symmetric-run ]] || exit 0
while [[ $1 != -- ]]; do shift; done
"${@:2}"
exit 1
"""
_SCONTROL = """#!/bin/bash
[[ "$1 $2" == "show hostnames" ]] && tr , '\\n' <<< "$3"
"""


def why_not() -> str | None:
    """Return why hosts cannot be made here, ``None`` if they can."""
    if missing := [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]:
        return f"there is no {missing[0]}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() or None


@contextmanager
def slurm_job(folder: Path, *, num_nodes: int) -> Iterator[dict[str, str]]:
    """Make the one or two hosts of a job and yield what Slurm puts into its environment."""
    job = next(_JOBS)
    hosts = [f"dfdm-{job}-{number}" for number in range(num_nodes)]
    addresses = ["10.213.0.1", "10.213.0.2"] if num_nodes == 2 else ["127.0.0.1"]
    tools = folder / "tools"
    tools.mkdir()
    for name, code in (("srun", _SRUN), ("scontrol", _SCONTROL)):
        _write_tool(tools / name, code)
    with ExitStack() as undo:
        for host in hosts:
            (folder / host).mkdir()
            (folder / f"{host}.ray").mkdir()
            _ip("netns", "add", host)
            undo.callback(_ip, "netns", "delete", host)
            _ip("-n", host, "link", "set", "lo", "up")
        if num_nodes == 2:
            _join(hosts, addresses)
        Path("/tmp/ray").mkdir(exist_ok=True)  # where `ray stop` would remove the address of another cluster
        ray = Path(f"/tmp/ray-{job}")  # as the script under test names it
        ray.mkdir()
        undo.callback(shutil.rmtree, ray, ignore_errors=True)
        (folder / "home").mkdir()
        yield {
            "HOME": str(folder / "home"),
            "HOSTS": " ".join(hosts),
            "FOLDERS": str(folder),
            "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "SLURM_JOB_ID": str(job),
            "SLURM_NNODES": str(num_nodes),
            "SLURM_JOB_NODELIST": ",".join(addresses),
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_SUBMIT_DIR": str(Path(__file__).parents[2]),
        }


def replace_ray(folder: Path) -> None:
    """Give the job in ``folder`` a Ray without a cluster: it only runs the command."""
    _write_tool(folder / "tools" / "ray", _RAY)


def _write_tool(path: Path, code: str) -> None:
    path.write_text(code)
    path.chmod(0o755)


def _join(hosts: list[str], addresses: list[str]) -> None:
    """Connect two hosts by a cable."""
    ends = [f"{host}c"[-15:] for host in hosts]
    _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
    for host, end, address in zip(hosts, ends, addresses, strict=True):
        _ip("link", "set", end, "netns", host)
        _ip("-n", host, "address", "add", f"{address}/24", "dev", end)
        _ip("-n", host, "link", "set", end, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
