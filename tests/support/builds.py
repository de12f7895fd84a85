"""What the tests of sources and manifests share."""

from pathlib import Path

from dfdm_ray.manifest.build import ManifestBuild

SWAP = "id0_id1_0000_3iae.mp4"


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def ids(build: ManifestBuild) -> list[str]:
    return list(build.table["video_id"].to_pylist())


def reasons(build: ManifestBuild) -> dict[str, str]:
    assert len({problem.name for problem in build.problems}) == len(build.problems)
    return {problem.name: problem.reason for problem in build.problems}


def row(build: ManifestBuild, video_id: str) -> dict[str, object]:
    (found,) = (one for one in build.table.to_pylist() if one["video_id"] == video_id)
    return dict(found)
