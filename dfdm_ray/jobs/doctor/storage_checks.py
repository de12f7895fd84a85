"""Is storage the same from everywhere? Pure functions from facts to findings."""

from collections.abc import Iterator

from dfdm_ray.io.storage import is_remote
from dfdm_ray.jobs.doctor.facts import Cluster, Stored
from dfdm_ray.jobs.doctor.findings import Finding, Status


def check_storage(cluster: Cluster) -> Iterator[Finding]:
    """What jobs read and write can be read and written where they run, and is one and the same."""
    wanted = cluster.driver.told
    by_driver = {(one.use, one.uri): one for one in wanted.storage} if wanted else {}
    for node, told in cluster.workplaces:
        for seen in told.storage:
            status, found, fix = _judge(seen, by_driver.get((seen.use, seen.uri)))
            yield Finding(
                check=seen.use, status=status, nodes=(node.name,), found=f"{seen.uri}: {found}", fix=fix
            )


def _judge(seen: Stored, by_driver: Stored | None) -> tuple[Status, str, str]:
    """Return status, what was found and what to do, of a URI on a node and on the driver."""
    if seen.error is not None:
        verb = "read" if seen.use == "reads" else "written"
        return Status.FAIL, f"cannot be {verb}: {seen.error}", _access_fix(seen)
    if seen.use == "writes":
        if seen.shared is False:
            return Status.FAIL, "not shared: a file of the driver is not there", _SHARE_FIX
        return Status.OK, "written and removed again", ""
    if seen.num_names == 0 and (by_driver is None or not by_driver.num_names):
        return Status.WARN, _content(seen), "if something should be there: mount it, or give another path"
    if by_driver is None or by_driver.error is not None:
        return Status.OK, _content(seen), ""
    if by_driver.num_names and not seen.num_names:
        return Status.FAIL, f"{_content(seen)}, but the driver sees {_content(by_driver)}", _SHARE_FIX
    if (seen.size_bytes, seen.names_sha256) != (by_driver.size_bytes, by_driver.names_sha256):
        found = f"{_content(seen)}, but the driver sees {_content(by_driver)} or other names"
        return Status.WARN, found, f"if nothing changes it now: {_SHARE_FIX}"
    return Status.OK, _content(seen), ""


_SHARE_FIX = "mount the same file system at this path on all nodes, or use s3://"


def _access_fix(seen: Stored) -> str:
    if is_remote(seen.uri):
        right = "read" if seen.use == "reads" else "write and delete in"
        return (
            f"give the node keys that may {right} it, by its instance's role or the environment that Ray was "
            "started in; check region and endpoint"
        )
    if seen.use == "reads":
        return "mount it at this path there, and let the user that Ray runs as read it"
    return "mount the folder at this path there, and let the user that Ray runs as write in it"


def _content(seen: Stored) -> str:
    if seen.num_names is None:
        return f"a file of {seen.size_bytes or 0:,} bytes"
    return f"a folder of {seen.num_names} names" if seen.num_names else "an empty folder"
