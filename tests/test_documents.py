"""Documents: links and file names lead to something; docs/files.md describes every column and reject code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster_files import REPOSITORY
from support.guides import guides

from dfdm_ray.errors import RejectCode
from dfdm_ray.schemas import CROPS, CROPS_INDEX, MANIFEST, PREDICTIONS

DOCUMENTS = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(path for name in ("docs", "cluster", "benchmarks") for path in (REPOSITORY / name).glob("*.md")),
    ]
)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def links(document: Path) -> Iterator[tuple[str, str]]:
    """Yield path and anchor of each link of a document to a file of the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", document.read_text())):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    for path, anchor in links(document):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_of_the_repository_that_a_document_names_exist(document: Path) -> None:
    folders = "dfdm_ray|ray_jobs|cluster|benchmarks|tests|docs"
    paths = re.findall(rf"\b(?:{folders})/[\w/.-]+\.(?:py|md|yaml|sh|sbatch|json)\b", document.read_text())
    assert not [path for path in paths if not (REPOSITORY / path).exists()]


def first_cells(section: str) -> set[str]:
    """Return the words in code style in the first column of the tables below a heading of docs/files.md."""
    text = (REPOSITORY / "docs" / "files.md").read_text()
    _, found, rest = text.partition(f"\n## {section}\n")
    assert found, section
    rows = re.findall(r"^\| ([^|]+) \|", rest.partition("\n## ")[0], re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_every_column_of_a_manifest_and_of_predictions_is_described_and_no_other() -> None:
    assert first_cells("Manifest") == set(MANIFEST.names)
    assert first_cells("Predictions") == set(PREDICTIONS.names)


def test_what_a_crops_dataset_adds_to_these_columns_is_described() -> None:
    both = set(CROPS.names) | set(CROPS_INDEX.names)
    assert first_cells("Crops dataset") == both - set(MANIFEST.names) - set(PREDICTIONS.names) - {"crops"}


def test_every_reject_code_is_described_and_no_other() -> None:
    assert first_cells("Reject codes") == set(RejectCode)


FENCES = [
    (path, mark, kind, code)
    for path in DOCUMENTS
    if path.parent.name == "docs"
    for mark, kind, code in re.findall(
        r"(<!-- not run: .+ -->\n)?^```(bash|python)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL
    )
]


def test_every_code_of_the_guides_is_run_or_says_why_not() -> None:
    left_over = [f"{name(path)}: {code}" for path, mark, kind, code in FENCES if not mark and kind == "bash"]
    run = {f"docs/{guide}.md: {code}" for guide, codes in guides().items() for code in codes}
    assert {*left_over} == run  # Python is run by test_code_blocks.py


def test_every_page_but_those_made_from_the_code_is_in_the_repository() -> None:
    config = (REPOSITORY / "mkdocs.yml").read_text()
    shown = {*re.findall(r"^ +- (?:\w+: )?([\w/]+\.md)$", config, re.MULTILINE)}
    made = {"cli.md", "schemas.md", "cluster.md", "benchmarks.md", "measured.md"}
    made |= {"changelog.md", "contributing.md", "security.md"}
    assert shown - made == {path.name for path in (REPOSITORY / "docs").glob("*.md")}
