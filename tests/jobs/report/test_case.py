import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.report_rows import HOSTILE, ROWS, answered, made

from dfdm_ray.jobs.report.case import case_of


def nodes(graph: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects of a graph that have a type, not literals."""
    for value in graph.values() if isinstance(graph, dict) else graph if isinstance(graph, list) else ():
        yield from nodes(value)
    if isinstance(graph, dict) and "@type" in graph and "@value" not in graph:
        yield graph


def of_type(graph: Any, kind: str) -> list[dict[str, Any]]:
    found = ((node, node["@type"]) for node in nodes(graph))
    return [node for node, types in found if kind in ([types] if isinstance(types, str) else types)]


@pytest.mark.parametrize("verdict", ROWS)
def test_a_graph_holds_tool_analysis_file_and_result_that_refer_to_each_other(verdict: str) -> None:
    graph = case_of(made(ROWS[verdict])[0])
    ids = [node["@id"] for node in nodes(graph)]
    assert len({*ids}) == len(ids)
    (analysis,) = of_type(graph, "uco-analysis:Analysis")
    (tool,) = of_type(graph, "uco-tool:ConfiguredTool")
    (result,) = of_type(graph, "uco-analysis:AnalyticResult")
    assert analysis["uco-action:instrument"]["@id"] == tool["@id"]
    assert analysis["uco-action:object"]["@id"] == of_type(graph, "uco-observable:File")[0]["@id"]
    assert analysis["uco-action:result"] == [{"@id": result["@id"]}]
    assert bool(of_type(graph, "uco-analysis:ArtifactClassificationResultFacet")) == (verdict != "rejected")
    confident = [node for node in nodes(graph) if "uco-analysis:classificationConfidence" in node]
    assert bool(confident) == (verdict in ("attributed", "real"))  # the others assert no class
    json.dumps(graph, allow_nan=False)


def test_ids_stay_the_same_for_the_same_examination_and_differ_between_videos() -> None:
    first, again, other = (
        case_of(made(answered(name, "attributed"))[0]) for name in ("a.mp4", "a.mp4", "b.mp4")
    )
    assert first == again
    (analysis,), (of_other,) = (of_type(graph, "uco-analysis:Analysis") for graph in (first, other))
    assert analysis["@id"] != of_other["@id"]


def test_each_face_has_a_result_and_hostile_names_are_escaped() -> None:
    row = answered(HOSTILE, "attributed")
    graph = case_of(made({**row, "faces": [row, answered(HOSTILE, "real", "real")]}, faces=2)[0])
    assert [node["uco-core:name"] for node in of_type(graph, "uco-analysis:AnalyticResult")] == [
        "face 1",
        "face 2",
    ]
    assert "\x1b" not in str(graph["@graph"][1])


@pytest.mark.slow
def test_the_validator_of_the_case_project_accepts_every_graph(tmp_path: Path) -> None:
    tool = os.environ.get("CASE_VALIDATE") or shutil.which("case_validate")
    if tool is None:
        pytest.skip("case_validate is not installed: pip install case-utils in an environment of its own")
    files = []
    for verdict, row in {**ROWS, "hostile": answered(HOSTILE, "attributed")}.items():
        files.append(tmp_path / f"{verdict}.jsonld")
        files[-1].write_text(json.dumps(case_of(made(row)[0])))
    command = [tool, "--built-version", "case-1.4.0", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Conforms: True" in done.stdout
    assert "Warning" not in done.stderr
