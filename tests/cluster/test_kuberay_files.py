"""The files for Kubernetes against the fields that KubeRay has, as strictly as `kubectl apply` takes them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.cluster_files import CLUSTER, documents
from support.kuberay_fields import DIGEST, JOBS, KUBERAY, merged, raycluster, rayclusters, rayjobs

ENTRY_POINTS = sorted(path.name for path in (CLUSTER.parent / "ray_jobs").glob("*.py"))
FIELDS = json.loads(DIGEST.read_text())
CONTENTS = {
    **{name: ("RayCluster", content) for name, content in rayclusters().items()},
    **{name: ("RayJob", content) for name, content in rayjobs().items()},
}


def check(content: Any, kind: str) -> None:
    """Raise a ``ValidationError`` if ``content`` has a field or a value that KubeRay does not know."""
    jsonschema.Draft202012Validator(FIELDS[kind]).validate(content)


@pytest.mark.parametrize("name", CONTENTS)
def test_resources_have_only_fields_and_values_that_kuberay_knows(name: str) -> None:
    kind, content = CONTENTS[name]
    check(content, kind)


def test_the_service_of_redis_finds_its_pod() -> None:
    service, redis = documents(KUBERAY / "redis.yaml")
    assert service["spec"]["selector"] == redis["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"autoscalerOptions": {"version": "v3"}},
        {"headGroupSpec": {"rayStartParams": {"num-cpus": 0}}},
        {"authOption": {"mode": "token"}},
        {"headGroupSpec": {"template": {"spec": {"securitycontext": {}}}}},
        {
            "headGroupSpec": {"template": {"spec": {"hostAliases": [{"ipp": "10.0.0.1"}]}}}
        },  # not in the digest
    ],
)
def test_a_mistake_in_the_cluster_would_be_seen(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(merged(raycluster(), {"spec": wrong}), "RayCluster")


def test_a_mistake_in_a_job_would_be_seen() -> None:
    for job in rayjobs().values():
        with pytest.raises(jsonschema.ValidationError, match="entryPoint"):
            check(merged(job, {"spec": {"entryPoint": "python"}}), "RayJob")


def test_there_is_a_job_for_each_entry_point() -> None:
    entry_points = [documents(path)[0]["spec"]["entrypoint"].split()[1] for path in JOBS]
    assert sorted(path.rpartition("/")[2] for path in entry_points) == ENTRY_POINTS


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_runs_on_the_cluster_and_from_the_image(path: Path) -> None:
    (job,) = documents(path)
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": raycluster()["metadata"]["name"]}
    assert job["metadata"]["generateName"] == path.stem.removeprefix("rayjob-") + "-"
    folder = job["spec"]["entrypoint"].split()[1].rpartition("/ray_jobs/")[0]
    assert f"WORKDIR {folder}\n" in (CLUSTER / "Dockerfile").read_text()


def pods() -> dict[str, dict[str, Any]]:
    spec = raycluster()["spec"]
    groups = {"head": spec["headGroupSpec"], **{one["groupName"]: one for one in spec["workerGroupSpecs"]}}
    return {name: group["template"]["spec"] for name, group in groups.items()}


@pytest.mark.parametrize("pod", pods().values(), ids=list(pods()))
def test_pods_are_not_root_and_bounded_and_their_object_store_fits(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
    (shm,) = (volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "5Gi"}
    assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]


def test_the_head_has_no_work_and_both_kinds_of_worker_scale() -> None:
    spec = raycluster()["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["enableInTreeAutoscaling"]
    assert spec["autoscalerOptions"]["version"] == "v2"
    cpu, gpu = spec["workerGroupSpecs"]
    assert all(0 == group["minReplicas"] < group["maxReplicas"] for group in (cpu, gpu))
    limits = pods()["gpu"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    stores = [int(one["rayStartParams"]["object-store-memory"]) for one in (spec["headGroupSpec"], cpu, gpu)]
    assert max(stores) < 5 * 2**30
