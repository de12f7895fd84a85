"""Do the nodes answer, and run the same code as the driver? Pure functions from facts to findings."""

from collections.abc import Iterator

from dfdm_ray.jobs.doctor.facts import Cluster, Node, Told
from dfdm_ray.jobs.doctor.findings import Finding, Status

_PACKAGE_FIX = (
    "install this dfdm-ray there, or send it along by `ray job submit` from the root of its repository"
)
_SAME_FIX = "install the same requirements.lock on all nodes and start Ray there again"


def check_answers(cluster: Cluster) -> Iterator[Finding]:
    """Every node answered."""
    for node in cluster.nodes:
        if node.told is None:
            yield Finding(
                check="answers",
                status=Status.FAIL,
                nodes=(node.name,),
                found=node.silence,
                fix="look at /tmp/ray/session_latest/logs there and for storage that hangs; give a slow node "
                "more --timeout-s, take a broken one out of the cluster",
            )
    if cluster.answered:
        works = sum(node.works for node in cluster.nodes)
        found = f"{len(cluster.answered)} of {len(cluster.nodes)} nodes, {works} with CPUs or GPUs"
        yield Finding(check="answers", status=Status.OK, nodes=_names(cluster.answered), found=found)


def check_package(cluster: Cluster) -> Iterator[Finding]:
    """dfdm-ray is on every node, is that of the driver, and can be imported with all it needs."""
    sound = []
    wanted = cluster.driver.told
    for node, told in cluster.places:
        if told.package is None:
            yield _failed("package", node, "dfdm-ray is not installed", _PACKAGE_FIX)
        elif wanted is not None and told.code != wanted.code:
            found = f"dfdm-ray {told.package}, but other code than the driver's {wanted.package}"
            yield _failed("package", node, found, _PACKAGE_FIX)
        elif not told.import_errors:
            sound.append((node, told))
        for module, error in told.import_errors.items():
            yield _failed("imports", node, f"{module} cannot be imported: {error:.300}", _import_fix(error))
    if sound:
        found = f"dfdm-ray {sound[0][1].package}, the same code; all that workers need can be imported"
        yield Finding(check="package", status=Status.OK, nodes=_names(tuple(sound)), found=found)


def _import_fix(error: str) -> str:
    if "cannot open shared object file" in error:
        library = error.partition(": cannot open")[0].rpartition(" ")[2]
        return f"install the system library {library} there"
    if "not done after" in error:
        return "the node is slow or its disk hangs; give more --timeout-s"
    return "install requirements.lock there: pip install --no-deps -r requirements.lock"


def check_versions(cluster: Cluster) -> Iterator[Finding]:
    """Python and the packages that results depend on are those of the driver everywhere."""
    wanted = cluster.driver.told
    if wanted is None:
        return
    for node, told in cluster.places:
        apart: dict[Status, list[str]] = {}
        for package, version in wanted.versions.items():
            there = told.versions.get(package)
            status = differ(version, there)
            if status != Status.OK:
                there = there or "missing"
                apart.setdefault(status, []).append(f"{package} {there} (driver: {version or 'missing'})")
        for status, found in apart.items():
            yield Finding(
                check="versions", status=status, nodes=(node.name,), found=", ".join(found), fix=_SAME_FIX
            )
        if not apart:
            found = [f"{package} {version}" for package, version in wanted.versions.items() if version]
            yield Finding(check="versions", status=Status.OK, nodes=(node.name,), found=", ".join(found))


def differ(one: str | None, other: str | None) -> Status:
    """Return how bad it is that two nodes have these versions of a package.

    Local labels, such as the ``+cpu`` and ``+cu128`` of torch, may differ; a third number is worth a warning.
    """
    if one is None or other is None:
        return Status.OK if one == other else Status.FAIL
    first, second = (version.partition("+")[0].split(".") for version in (one, other))
    if first == second:
        return Status.OK
    return Status.WARN if first[:2] == second[:2] else Status.FAIL


def _failed(check: str, node: Node, found: str, fix: str) -> Finding:
    return Finding(check=check, status=Status.FAIL, nodes=(node.name,), found=found, fix=fix)


def _names(places: tuple[tuple[Node, Told], ...]) -> tuple[str, ...]:
    return tuple(node.name for node, _ in places)
