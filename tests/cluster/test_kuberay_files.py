"""The files for Kubernetes against the schemas of KubeRay, as strictly as `kubectl apply` takes them.

``DFDM_RAY_CRDS`` names a folder with KubeRay's CustomResourceDefinitions, ``ray.io_rayclusters.yaml.gz`` and
``ray.io_rayjobs.yaml.gz``.
"""

import gzip
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support.cluster_files import CLUSTER, documents

KUBERAY = CLUSTER / "kuberay"
JOBS = sorted(KUBERAY.glob("rayjob-*.yaml"))
ENTRY_POINTS = sorted(path.name for path in (CLUSTER.parent / "ray_jobs").glob("*.py"))
CRDS = os.environ.get("DFDM_RAY_CRDS")

needs_crds = pytest.mark.skipif(not CRDS, reason="DFDM_RAY_CRDS names no folder with KubeRay's CRDs")

INT_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
METADATA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
    "additionalProperties": False,
}


def strict(schema: Any) -> Any:
    """Return a structural schema of Kubernetes as a JSON schema in which unknown fields are errors."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return INT_OR_STRING
    made = {key: value for key, value in schema.items() if not key.startswith("x-") and key != "description"}
    if "properties" in made:
        made["properties"] = {name: strict(value) for name, value in made["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in made:
            made[key] = strict(made[key])
    if made.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@cache
def crd(kind: str) -> dict[str, Any]:
    """Return the strict schema of ``RayCluster`` or ``RayJob``, version v1."""
    path = Path(str(CRDS)) / f"ray.io_{kind.lower()}s.yaml.gz"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(gzip.decompress(path.read_bytes()), Loader=loader)  # it is a SafeLoader
    (version,) = (one for one in definition["spec"]["versions"] if one["name"] == "v1")
    schema: dict[str, Any] = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {
        "metadata": METADATA,
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": kind},
    }
    return schema


def check(content: Any, schema: dict[str, Any]) -> None:
    """Raise a ``ValidationError`` if ``content`` is not what ``schema`` says; the schema is not checked."""
    jsonschema.Draft202012Validator(schema).validate(content)


def cluster_spec() -> dict[str, Any]:
    properties: dict[str, Any] = crd("RayCluster")["properties"]["spec"]["properties"]
    return properties


def pod_template() -> dict[str, Any]:
    template: dict[str, Any] = cluster_spec()["headGroupSpec"]["properties"]["template"]
    return template


def raycluster() -> dict[str, Any]:
    (content,) = documents(KUBERAY / "raycluster.yaml")
    return content


def merged(content: Any, patch: Any) -> Any:
    """Return ``content`` after a JSON merge patch (RFC 7396), as `kubectl patch --type merge` does it."""
    if not isinstance(patch, dict):
        return patch
    base = content if isinstance(content, dict) else {}
    return {**base, **{key: merged(base.get(key), value) for key, value in patch.items()}}


@needs_crds
def test_the_cluster_has_only_fields_and_values_that_kuberay_knows() -> None:
    check(raycluster(), crd("RayCluster"))


@needs_crds
def test_the_cluster_with_redis_does_too() -> None:
    (patch,) = documents(KUBERAY / "redis-patch.yaml")
    check(merged(raycluster(), patch), crd("RayCluster"))


@needs_crds
@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_has_only_fields_and_values_that_kuberay_knows(path: Path) -> None:
    (job,) = documents(path)
    check(job, crd("RayJob"))


@needs_crds
def test_redis_is_a_pod_that_kubernetes_knows() -> None:
    service, redis = documents(KUBERAY / "redis.yaml")
    check(redis["spec"]["template"], pod_template())
    assert service["spec"]["selector"] == redis["spec"]["selector"]["matchLabels"]
    (claim,) = redis["spec"]["volumeClaimTemplates"]
    check(claim["spec"], claim_spec())


def claim_spec() -> dict[str, Any]:
    """Return the schema of a PersistentVolumeClaim's ``spec``, which stands in that of a pod."""
    volume = pod_template()["properties"]["spec"]["properties"]["volumes"]["items"]["properties"]
    template = volume["ephemeral"]["properties"]["volumeClaimTemplate"]["properties"]
    spec: dict[str, Any] = template["spec"]
    return spec


@needs_crds
def test_the_volume_claim_is_one_that_kubernetes_knows() -> None:
    (claim,) = documents(KUBERAY / "data-pvc.yaml")
    check(claim["spec"], claim_spec())


@needs_crds
def test_the_network_policy_has_rules_that_kubernetes_knows() -> None:
    (policy,) = documents(KUBERAY / "networkpolicy.yaml")
    rules = cluster_spec()["networkPolicy"]["properties"]["head"]["properties"]
    check(policy["spec"]["ingress"], rules["ingressRules"])
    check(policy["spec"]["egress"], rules["egressRules"])


@needs_crds
@pytest.mark.parametrize(
    "wrong",
    [
        {"spec": {"autoscalerOptions": {"version": "v3"}}},
        {"spec": {"headGroupSpec": {"rayStartParams": {"num-cpus": 0}}}},
        {"spec": {"authOption": {"mode": "token"}}},
        {"spec": {"headGroupSpec": {"template": {"spec": {"securitycontext": {}}}}}},
    ],
)
def test_a_mistake_in_the_cluster_would_be_seen(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(merged(raycluster(), wrong), crd("RayCluster"))


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
    assert all(1 <= group["minReplicas"] < group["maxReplicas"] for group in (cpu, gpu))
    limits = pods()["gpu"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    stores = [int(one["rayStartParams"]["object-store-memory"]) for one in (spec["headGroupSpec"], cpu, gpu)]
    assert max(stores) < 5 * 2**30
