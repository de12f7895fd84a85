"""The files for `ray up` are what Ray's own schema and the clouds' calls take."""

import json
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import ray.autoscaler
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config
from support.cluster_files import CLUSTER, documents

AWS, GCP = (CLUSTER / "ray_up" / f"{cloud}.yaml" for cloud in ("aws", "gcp"))
SCHEMA = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())

# Of an instance, as far as the file uses them: https://cloud.google.com/compute/docs/reference/rest/v1/instances
GCP_FIELDS = {
    "": {"machineType", "disks", "scheduling"},
    "disks": {"boot", "autoDelete", "type", "initializeParams"},
    "initializeParams": {"diskSizeGb", "diskType", "sourceImage"},
    "scheduling": {"provisioningModel", "instanceTerminationAction", "onHostMaintenance", "automaticRestart"},
}
PROVIDER_FIELDS = {
    "aws": {"type", "region", "cache_stopped_nodes", "security_group"},
    "gcp": {"type", "region", "availability_zone", "project_id"},
}


def config(path: Path) -> dict[str, Any]:
    (content,) = documents(path)
    return content


def node_configs(path: Path) -> dict[str, dict[str, Any]]:
    return {name: kind["node_config"] for name, kind in config(path)["available_node_types"].items()}


@pytest.mark.parametrize("path", [AWS, GCP], ids=lambda path: path.stem)
def test_ray_takes_the_file_as_it_is_and_with_its_defaults(path: Path) -> None:
    jsonschema.validate(config(path), SCHEMA)
    validate_config(prepare_config(config(path)))


@pytest.mark.parametrize("path", [AWS, GCP], ids=lambda path: path.stem)
def test_the_provider_has_no_field_that_ray_would_overlook(path: Path) -> None:
    provider = config(path)["provider"]
    assert set(provider) <= PROVIDER_FIELDS[provider["type"]]


@pytest.mark.parametrize("kind", node_configs(AWS))
def test_a_node_of_aws_is_what_run_instances_takes(kind: str) -> None:
    call = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")
    parameters = {**node_configs(AWS)[kind], "MinCount": 1, "MaxCount": 1}
    assert set(parameters) <= set(call.input_shape.members)
    report = ParamValidator().validate(parameters, call.input_shape)
    assert not report.has_errors(), report.generate_report()


def unknown(content: Any, part: str = "") -> set[str]:
    if isinstance(content, list):
        return set().union(*(unknown(one, part) for one in content))
    if not isinstance(content, dict):
        return set()
    inner = (unknown(value, name) for name, value in content.items())
    return (set(content) - GCP_FIELDS.get(part, set())).union(*inner)


@pytest.mark.parametrize("kind", node_configs(GCP))
def test_a_node_of_gcp_has_known_fields_only(kind: str) -> None:
    assert not unknown(node_configs(GCP)[kind])


@pytest.mark.parametrize("path", [AWS, GCP], ids=lambda path: path.stem)
def test_the_head_has_no_work_and_workers_are_spot_and_scale(path: Path) -> None:
    content = config(path)
    kinds = content["available_node_types"]
    assert kinds[content["head_node_type"]]["resources"] == {"CPU": 0}
    for name in ("cpu", "gpu"):
        assert 0 == kinds[name]["min_workers"] < kinds[name]["max_workers"]
        assert "spot" in json.dumps(kinds[name]["node_config"]).lower()
    assert "spot" not in json.dumps(kinds["head"]["node_config"]).lower()
    assert sum(kinds[name]["max_workers"] for name in ("cpu", "gpu")) <= content["max_workers"]
    assert content["idle_timeout_minutes"] > 0


@pytest.mark.parametrize("path", [AWS, GCP], ids=lambda path: path.stem)
def test_files_that_are_copied_are_the_users_token_and_the_lock(path: Path) -> None:
    assert set(config(path)["file_mounts"].values()) == {"~/.ray/auth_token", "requirements.lock"}
    assert (CLUSTER.parent / "requirements.lock").exists()


def test_both_clouds_set_nodes_up_and_start_ray_alike() -> None:
    parts = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands", "file_mounts")
    assert [config(AWS)[part] for part in parts] == [config(GCP)[part] for part in parts]
