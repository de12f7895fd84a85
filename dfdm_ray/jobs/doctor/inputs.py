"""What the driver alone reads and sends to workers: the checkpoint and the face detector's weights."""

from collections.abc import Iterator

from dfdm_ray import assets
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.doctor.config import DoctorConfig
from dfdm_ray.jobs.doctor.findings import Finding, Status
from dfdm_ray.jobs.doctor.probe import within
from dfdm_ray.models.checkpoint import load_checkpoint


def check_checkpoint(config: DoctorConfig, *, driver: str) -> Iterator[Finding]:
    """The checkpoint can be read and is one."""
    uri = config.checkpoint
    if uri is None:
        return
    try:
        model = load_checkpoint(_read(uri, "checkpoint", config), name=uri)
    except UserError as error:
        fix = "give a checkpoint of `dfdm-ray train`, at a path that the driver sees"
        yield Finding(check="checkpoint", status=Status.FAIL, nodes=(driver,), found=str(error), fix=fix)
        return
    found = f"{uri}: {model.config.backbone}, {model.config.num_frames} frames, {len(model.classes)} classes"
    yield Finding(check="checkpoint", status=Status.OK, nodes=(driver,), found=found)


def _read(uri: str, what: str, config: DoctorConfig) -> bytes:
    try:
        return within(config.timeout_s, lambda: storage.read_bytes(uri, what=what))
    except TimeoutError as late:
        raise UserError(f"cannot read the {what} {uri}: {late}") from late


def check_detector(config: DoctorConfig, *, driver: str) -> Iterator[Finding]:
    """The weights of the face detector are there."""
    asset, weights = assets.find(assets.DETECTOR_WEIGHTS[config.detector]), config.weights
    if weights is not None:
        try:
            found = f"{weights}: {len(_read(weights, 'weights', config)):,} bytes"
            yield Finding(check="detector", status=Status.OK, nodes=(driver,), found=found)
        except UserError as error:
            fix = f"give the file of `dfdm-ray assets get {asset.name}`, at a path that the driver sees"
            yield Finding(check="detector", status=Status.FAIL, nodes=(driver,), found=str(error), fix=fix)
    elif path := assets.cached(asset):
        yield Finding(check="detector", status=Status.OK, nodes=(driver,), found=str(path))
    else:
        yield Finding(
            check="detector",
            status=Status.WARN,
            nodes=(driver,),
            found=f"{asset.name} is not in {assets.cache_folder()}; the first run fetches it, if it can",
            fix=f"`dfdm-ray assets get {asset.name}` there, or copy it from where that works",
        )
