"""Documented commands are ones that Ray and dfdm-ray take; nothing is run."""

import re
import runpy
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
from ray.dashboard.modules.job.cli import job_cli_group
from ray.scripts.scripts import cli as ray_cli
from ray.scripts.symmetric_run import symmetric_run
from support.cluster_files import CLUSTER, README, REPOSITORY, after, commands, documents, fences, shell_code

from dfdm_ray import cli

OPTION = re.compile(r"--[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*")
GUIDES = (
    *("score", "tables", "dfdm", "generate", "data", "crops", "train", "calibrate", "evaluate", "files"),
    *("how_it_works", "quickstart", "verdicts", "report"),
)
COMMANDS = [(where, words) for where, code in shell_code().items() for words in commands(code)]


def entry_points() -> Iterator[tuple[str, list[str]]]:
    """Yield each command line of ``ray_jobs/*.py`` in cluster/, with its place."""
    for where, words in COMMANDS:
        for number, word in enumerate(words):
            if word.startswith("ray_jobs/") and "$@" not in words:
                yield where, words[number:]
        if (options := after(words, "score.sbatch")) is not None:
            yield where, ["ray_jobs/score.py", *options]
    for path in sorted((CLUSTER / "kuberay").glob("rayjob-*.yaml")):
        _, script, *options = documents(path)[0]["spec"]["entrypoint"].split()
        yield path.name, [f"ray_jobs/{script.rpartition('/')[2]}", *options]
    for path in sorted((CLUSTER / "slurm").glob("*.sbatch")):
        usage = path.read_text().partition("#SBATCH")[0].replace("\\\n#", "")
        for words in commands(usage.replace("# ", "")):
            if (options := after(words, "score.sbatch")) is not None:
                yield path.name, ["ray_jobs/score.py", *options]
            elif (options := after(words, "job.sbatch")) is not None:
                yield path.name, options


ENTRY_POINTS = list(entry_points())


@pytest.fixture
def jobs_run(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that receives the configurations of jobs that would have run."""
    seen: list[Any] = []
    monkeypatch.setattr(cli, "_run", lambda config: seen.append(config) or True)
    return seen


@pytest.mark.parametrize(("where", "words"), ENTRY_POINTS, ids=[f"{a}: {b[0]}" for a, b in ENTRY_POINTS])
def test_a_job_takes_the_options_it_is_shown_with(
    where: str, words: list[str], jobs_run: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(REPOSITORY / words[0]), run_name="__main__")
    assert len(jobs_run) == 1, where


def dfdm_ray_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the options of each call of ``dfdm-ray`` in the documents and in the Makefile."""
    documents = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), CLUSTER / "README.md"]
    code = {path.name: "\n".join(fences(path)) for path in documents}
    code["Makefile"] = (REPOSITORY / "Makefile").read_text().replace("$(BIN)/", "").replace("$(ARGS)", "")
    for where, text in code.items():
        for words in commands(text):
            if words[0].rpartition("/")[2] == "dfdm-ray":
                yield where, words[1:]


DFDM_RAY = list(dfdm_ray_commands())


@pytest.mark.parametrize(("where", "options"), DFDM_RAY, ids=[f"{a}: {' '.join(b)}" for a, b in DFDM_RAY])
def test_dfdm_ray_takes_the_options_it_is_shown_with(
    where: str, options: list[str], jobs_run: list[Any]
) -> None:
    cli.main(options)
    assert len(jobs_run) == 1, where


def test_the_documents_show_every_command() -> None:
    shown = {options[0] for _, options in DFDM_RAY}
    assert shown >= set(cli._COMMANDS)


def known_options(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the options of every command, and those of ``ray job`` and pip that the documents name."""
    names = [[name] for name in cli._COMMANDS if name != "png-tree"]
    options = {"--no-deps"}
    for command in job_cli_group.commands.values():
        options |= {option for parameter in command.params for option in parameter.opts}
    for words in [*names, ["train-paper"], ["png-tree", "export"], ["png-tree", "import"]]:
        with pytest.raises(SystemExit):
            cli.main([*words, "--help"])
        options |= set(OPTION.findall(capsys.readouterr().out))
    return options


def test_options_named_in_the_text_of_the_guides_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known = known_options(capsys)
    known |= {option.partition(".")[0] for option in known}  # --limits.* stands for all of them
    guides = [REPOSITORY / "docs" / f"{guide}.md" for guide in GUIDES]
    for path in (README, REPOSITORY / "README.md", *guides):
        text = re.sub(r"`python benchmarks/[^`]*`", "", path.read_text())
        named = {option for code in re.findall(r"`([^`\n]+)`", text) for option in OPTION.findall(code)}
        assert named <= known, f"{path.name}: {named - known}"


def test_every_job_is_shown_in_the_readme() -> None:
    shown = {words[0].rpartition("/")[2] for where, words in ENTRY_POINTS if where.startswith("README")}
    assert shown == {path.name for path in (REPOSITORY / "ray_jobs").glob("*.py")}


def test_an_option_that_a_job_does_not_have_would_be_seen(
    jobs_run: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = REPOSITORY / "ray_jobs" / "score.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--video", "a", "--checkpoint", "b", "--out", "c"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    assert not jobs_run
    assert "--video" in capsys.readouterr().err


def ray_calls() -> list[tuple[str, click.Command, list[str]]]:
    """Return each call of ``ray`` with the click command that would take its words."""
    found = []
    for where, words in COMMANDS:
        rest = after(words, "ray")
        if not rest or "$@" in rest:
            continue
        group, name, options = (
            (job_cli_group, rest[1], rest[2:]) if rest[0] == "job" else (ray_cli, rest[0], rest[1:])
        )
        command = group.commands.get(name)
        assert command is not None, f"{where}: ray has no {name}"
        found.append((where, command, options))
    return found


@pytest.mark.parametrize(("where", "command", "options"), ray_calls())
def test_ray_takes_the_options_it_is_shown_with(
    where: str, command: click.Command, options: list[str]
) -> None:
    command.make_context("ray", list(options))


def test_symmetric_run_gets_options_of_a_node_that_need_no_head() -> None:
    ((_, words),) = ((where, words) for where, words in COMMANDS if after(words, "ray", "symmetric-run"))
    rest = after(words, "ray", "symmetric-run") or []
    before = ["2" if word == "$SLURM_NNODES" else word for word in rest[: rest.index("--")]]
    context = symmetric_run.make_context("ray", list(before))
    assert set(context.params) >= {"address", "min_nodes"}
    start = [word for word in context.params["ray_args_and_entrypoint"] if word.startswith("--")]
    known = {option for parameter in ray_cli.commands["start"].params for option in parameter.opts}
    only_head = {"--head", "--port", "--block", "--node-ip-address", "--include-dashboard"}
    assert {word.partition("=")[0] for word in start} <= known - only_head


def test_runtime_environments_name_the_repository_and_exist() -> None:
    named = {word for _, words in COMMANDS for word in words if word.startswith("cluster/jobs/")}
    assert named == {f"cluster/jobs/{path.name}" for path in (CLUSTER / "jobs").iterdir()}
    for path in named:
        (content,) = documents(REPOSITORY / path)
        assert content["working_dir"] == "."
        assert all(isinstance(value, str) for value in content["env_vars"].values())


@pytest.mark.parametrize("text", fences(), ids=lambda text: text.split("\n")[0])
def test_files_named_in_commands_exist(text: str) -> None:
    for words in commands(text):
        for word in words:
            if word.startswith(("cluster/", "ray_jobs/")):
                assert (REPOSITORY / word).exists(), word
