"""The fields of KubeRay's RayCluster and RayJob, as far as cluster/kuberay/ goes into them.

``tests/cluster/kuberay_fields.json`` is made from the ``ray.io/v1`` definitions that KubeRay publishes as
``helm-chart/kuberay-operator/crds/ray.io_rayclusters.yaml`` and ``ray.io_rayjobs.yaml`` in its repository
``ray-project/kuberay`` (Apache-2.0), here those of 2026-08-19. For a new version of KubeRay, or when a file
of ours uses a field whose inside is not in the digest, download the two and run::

    PYTHONPATH=tests python tests/support/kuberay_fields.py FOLDER_WITH_BOTH
"""

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from support.cluster_files import CLUSTER, documents

DIGEST = Path(__file__).parents[1] / "cluster" / "kuberay_fields.json"
KUBERAY = CLUSTER / "kuberay"
JOBS = sorted(KUBERAY.glob("rayjob-*.yaml"))

_INT_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
_METADATA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
    "additionalProperties": False,
}
_LEAVES = {"object": {"maxProperties": 0}, "array": {"maxItems": 0}}
"""What a field may hold that no file of ours uses: its inside is not in the digest."""


def raycluster() -> dict[str, Any]:
    (content,) = documents(KUBERAY / "raycluster.yaml")
    return content


def merged(content: Any, patch: Any) -> Any:
    """Return ``content`` after a JSON merge patch (RFC 7396), as `kubectl patch --type merge` does it."""
    if not isinstance(patch, dict):
        return patch
    base = content if isinstance(content, dict) else {}
    return {**base, **{key: merged(base.get(key), value) for key, value in patch.items()}}


def rayclusters() -> dict[str, dict[str, Any]]:
    """Return the cluster, and clusters that contain the other resources of cluster/kuberay/.

    A pod, a volume claim and the rules of a network policy have the same fields inside a RayCluster.
    """
    (patch,) = documents(KUBERAY / "redis-patch.yaml")
    (data,) = documents(KUBERAY / "data-pvc.yaml")
    (policy,) = documents(KUBERAY / "networkpolicy.yaml")
    _, redis = documents(KUBERAY / "redis.yaml")
    (claim,) = redis["spec"]["volumeClaimTemplates"]
    claims = [
        {"name": name, "ephemeral": {"volumeClaimTemplate": {"spec": one["spec"]}}}
        for name, one in (("data", data), ("redis", claim))
    ]
    rules = {f"{way}Rules": policy["spec"][way] for way in ("ingress", "egress")}
    head = {"rayStartParams": {}, "template": redis["spec"]["template"]}
    return {
        "raycluster.yaml": raycluster(),
        "redis-patch.yaml": merged(raycluster(), patch),
        "redis.yaml, the pod": {**raycluster(), "spec": {"headGroupSpec": head}},
        "volume claims": merged(
            raycluster(), {"spec": {"headGroupSpec": {"template": {"spec": {"volumes": claims}}}}}
        ),
        "networkpolicy.yaml": merged(raycluster(), {"spec": {"networkPolicy": {"head": rules}}}),
    }


def rayjobs() -> dict[str, dict[str, Any]]:
    return {path.name: document for path in JOBS for document in documents(path)}


def strict(schema: Any) -> Any:
    """Return a structural schema of Kubernetes as a JSON schema in which unknown fields are errors."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    made = {key: value for key, value in schema.items() if not key.startswith("x-") and key != "description"}
    if "properties" in made:
        made["properties"] = {name: strict(value) for name, value in made["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in made:
            made[key] = strict(made[key])
    if made.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def pruned(schema: dict[str, Any], contents: list[Any]) -> dict[str, Any]:
    """Return ``schema`` without the inside of fields that none of ``contents`` has."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {
            name: pruned(value, [one[name] for one in contents if name in one])
            if any(name in one for one in contents)
            else {"type": value["type"], **_LEAVES.get(value["type"], {})}
            if "type" in value
            else {}
            for name, value in schema["properties"].items()
        }
    if "items" in schema:
        made["items"] = pruned(schema["items"], [one for content in contents for one in content])
    return made


def digest(folder: Path) -> dict[str, Any]:
    made = {}
    for kind, contents in (("RayCluster", rayclusters()), ("RayJob", rayjobs())):
        path = folder / f"ray.io_{kind.lower()}s.yaml"
        text = (
            path.read_bytes()
            if path.exists()
            else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())
        )
        definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        (version,) = (one for one in definition["spec"]["versions"] if one["name"] == "v1")
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"] |= {
            "metadata": _METADATA,
            "apiVersion": {"const": "ray.io/v1"},
            "kind": {"const": kind},
        }
        made[kind] = pruned(schema, list(contents.values()))
    return made


if __name__ == "__main__":
    text = json.dumps(digest(Path(sys.argv[1])), indent=1, sort_keys=True)
    for _ in range(2):  # what holds nothing else goes on one line
        text = re.sub(r"[{\[][^{}\[\]]*[}\]]", lambda found: " ".join(found[0].split()), text)
    DIGEST.write_text(text + "\n")
