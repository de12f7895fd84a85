"""What is known of a cluster: what Ray says of each node, and what the node itself told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One URI as a node sees it."""

    uri: str
    use: Literal["reads", "writes"]
    error: str | None = None
    """Why it cannot be read or written."""
    size_bytes: int | None = None
    """Of a file that is read."""
    num_names: int | None = None
    """In a folder that is read."""
    names_sha256: str | None = None
    shared: bool | None = None
    """Of what is written: whether the driver's file is seen there. ``None`` if the driver wrote none."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What :func:`dfdm_ray.jobs.doctor.probe.look` found on a machine."""

    versions: Mapping[str, str | None]
    """Of Python and :data:`dfdm_ray.jobs.doctor.probe.PACKAGES`."""
    package: str | None
    """Version of dfdm-ray; ``None`` if it cannot be imported."""
    code: str | None
    """SHA-256 over the modules of dfdm-ray."""
    import_errors: Mapping[str, str] = field(default_factory=dict)
    """By module."""
    gpus: int | None = None
    """That torch computes on; ``None`` if torch was not asked or cannot be imported."""
    gpu_error: str = ""
    cuda_build: str | None = None
    """CUDA that torch was built for."""
    gpu_driver: str | None = None
    auth_mode: str = "disabled"
    """``token`` or ``disabled``, as Ray was started."""
    shm_bytes: int | None = None
    """Size of ``/dev/shm``."""
    disks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Total and free bytes of the folders that fill up."""
    storage: tuple[Stored, ...] = ()

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Told":
        """Return the facts in what came from a node."""
        disks = {folder: (total, free) for folder, (total, free) in plain["disks"].items()}
        return cls(**{**plain, "disks": disks, "storage": tuple(Stored(**one) for one in plain["storage"])})


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the cluster, or the machine of the driver."""

    name: str
    told: Told | None
    """``None`` if it did not answer."""
    silence: str = ""
    """Why it did not."""
    cpus: float = 0.0
    gpus: float = 0.0
    store_bytes: int = 0
    """Size of the object store."""

    @property
    def works(self) -> bool:
        """Whether workers run there."""
        return self.cpus > 0 or self.gpus > 0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """All that the checks look at."""

    driver: Node
    """Where this command runs; the others are compared with it."""
    nodes: tuple[Node, ...]
    local: bool
    """The cluster is a Ray in this process."""

    @property
    def answered(self) -> tuple[tuple[Node, Told], ...]:
        """The nodes that told something, with what they told."""
        return tuple((node, node.told) for node in self.nodes if node.told is not None)

    @property
    def places(self) -> tuple[tuple[Node, Told], ...]:
        """Those, and the driver unless it is one of them."""
        driver = self.driver
        alone = self.local and self.answered
        return self.answered if alone or driver.told is None else (*self.answered, (driver, driver.told))

    @property
    def workplaces(self) -> tuple[tuple[Node, Told], ...]:
        """Where jobs run: nodes with CPUs or GPUs, and the driver."""
        here = ((self.driver, self.driver.told),) if self.driver.told is not None else ()
        return (*((node, told) for node, told in self.answered if node.works), *here)
