"""All files in cluster/ are pinned, contain no secrets, open no ports to everyone, and pass the linters."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cluster_files import (
    CLUSTER,
    README,
    REPOSITORY,
    after,
    commands,
    documents,
    shell_code,
    shell_files,
    values,
    yaml_files,
)

ALL = sorted(path for path in CLUSTER.rglob("*") if path.is_file())
SECRET = re.compile(r"key|secret|password|token", re.IGNORECASE)


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def lint(tool: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name(tool), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", shell_files(), ids=name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    lint("shellcheck", path)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    lint("hadolint", CLUSTER / "Dockerfile")


@pytest.mark.parametrize("path", yaml_files(), ids=name)
def test_images_are_pinned_by_a_tag(path: Path) -> None:
    for image in [image for document in documents(path) for image in values(document, "image")]:
        _, colon, tag = image.rpartition("/")[2].partition(":")
        assert colon, image
        assert re.match(r"\d", tag), image


def test_the_dockerfile_pins_what_it_builds_on() -> None:
    stages = set()
    for line in (CLUSTER / "Dockerfile").read_text().splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            image, stage = match.groups()
            assert image in stages or re.search(r":\d+\.\d+\.\d+-", image), line
            stages.add(stage)
        else:
            assert not line.startswith("FROM"), line
    assert {"cpu", "cuda"} <= stages


def test_the_image_gets_all_that_it_copies() -> None:
    kept = [
        line.removeprefix("!").rstrip("/")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for line in (CLUSTER / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            assert set(line.split()[1:-1]) <= set(kept), line
    assert all((REPOSITORY / path).exists() for path in kept)


def starts_of_ray() -> list[tuple[str, str, list[str]]]:
    """Return the place of each start of Ray, the code there, and the words of the command."""
    everywhere = [(where, code, words) for where, code in shell_code().items() for words in commands(code)]
    return [
        one for one in everywhere if after(one[2], "ray", "start") or after(one[2], "ray", "symmetric-run")
    ]


@pytest.mark.parametrize(("where", "code", "words"), starts_of_ray())
def test_ray_is_started_with_the_token_and_a_dashboard_for_this_machine_only(
    where: str, code: str, words: list[str]
) -> None:
    assert re.search(r"export\b.*\bRAY_AUTH_MODE=token\b", code), where
    if "--head" in words:
        assert "--dashboard-host=127.0.0.1" in words


def test_every_way_to_a_cluster_but_kubernetes_starts_ray_itself() -> None:
    assert len({where for where, _, _ in starts_of_ray()}) == 6  # README, on_ray.sh, two clouds of two parts


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_port_is_opened_to_everyone(path: Path) -> None:
    text = path.read_text()
    assert "0.0.0.0" not in text
    assert not re.search(r"LoadBalancer|NodePort|enableIngress|hostNetwork|RAY_AUTH_MODE=disabled", text)


def test_kubernetes_clusters_ask_for_the_token() -> None:
    clusters = [one for path in yaml_files() for one in documents(path) if one.get("kind") == "RayCluster"]
    assert clusters
    assert all(one["spec"]["authOptions"] == {"mode": "token"} for one in clusters)


def literal_secrets(content: Any) -> list[str]:
    """Return the names that look like secrets and have a literal value."""
    found = []
    if isinstance(content, dict):
        if SECRET.search(str(content.get("name", ""))) and "value" in content:
            found.append(content["name"])
        for key, value in content.items():
            no_secret = key.endswith("auth_token") or key in ("key", "HttpTokens")  # a path, a name, a switch
            if SECRET.search(key) and isinstance(value, str) and not no_secret:
                found.append(key)
            found += literal_secrets(value)
    elif isinstance(content, list):
        for value in content:
            found += literal_secrets(value)
    return found


@pytest.mark.parametrize("path", yaml_files(), ids=name)
def test_no_yaml_file_holds_a_secret(path: Path) -> None:
    assert not [secret for document in documents(path) for secret in literal_secrets(document)]


@pytest.mark.parametrize("path", [*ALL, REPOSITORY / "SECURITY.md"], ids=name)
def test_no_text_holds_a_key(path: Path) -> None:
    assert not re.search(r"AKIA[0-9A-Z]{16}|PRIVATE KEY|\b[0-9a-f]{32,}\b", path.read_text())


def test_the_readme_or_another_file_names_every_file() -> None:
    texts = {path: path.read_text() for path in ALL}
    for path in ALL:
        others = "".join(text for other, text in texts.items() if other != path)
        named = path.name in others or (path.match("rayjob-*.yaml") and "rayjob-*.yaml" in texts[README])
        assert named or path == README, path
