"""Hooks of MkDocs: pages made from the code, and documents from outside docs/.

Links between documents are those of the repository; here they are led to the pages of the site.
"""

import contextlib
import io
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from dfdm_ray import cli, schemas

REPOSITORY = Path(__file__).parents[2]
ELSEWHERE = {
    "cluster/README.md": "cluster.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/results.md": "measured.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",
}
"""Documents outside docs/ and their pages."""
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#]*)(#[^)]*)?\)")
_TABLES = {
    "Manifest": schemas.MANIFEST,
    "Predictions": schemas.PREDICTIONS,
    "Crops files": schemas.CROPS,
    "Index of a crops dataset": schemas.CROPS_INDEX,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that docs/ does not contain."""
    pages = {page: (REPOSITORY / path).read_text() for path, page in ELSEWHERE.items() if page != "index.md"}
    pages |= {"cli.md": "".join(command_line()), "schemas.md": "".join(tables())}
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a document to pages; a file that has none is named without a link."""
    origins = {target: path for path, target in ELSEWHERE.items() if target != "index.md"}
    folder = posixpath.dirname(origins.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def led(link: re.Match[str]) -> str:
        text, path, anchor = link[1], posixpath.normpath(posixpath.join(folder, link[2])), link[3] or ""
        target = ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        return f"[{text}]({target}{anchor})" if target else f"{text} (`{path}`)"

    return _LINK.sub(led, markdown)


def command_line() -> Iterator[str]:
    """Yield the help of each command."""
    os.environ["COLUMNS"] = "78"
    yield "# Command line\n\n`dfdm-ray COMMAND --help` prints the same.\n"
    for name in (*cli._COMMANDS, "train-paper"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            cli.main([name, "--help"])
        yield f"\n## {name}\n\n```text\n{out.getvalue().strip()}\n```\n"


def tables() -> Iterator[str]:
    """Yield the columns of each file."""
    yield "# Schemas\n\nThe columns of all files, from the code; [files.md](files.md) explains them.\n"
    for title, schema in _TABLES.items():
        yield f"\n## {title}\n\n| column | type | null | meaning |\n| --- | --- | --- | --- |\n"
        for field in schema:
            meaning = (field.metadata or {}).get(b"meaning", b"").decode().replace("|", "\\|")
            null = "yes" if field.nullable else ""
            yield f"| `{field.name}` | `{type_name(field.type)}` | {null} | {meaning} |\n"


def type_name(kind: pa.DataType) -> str:
    """Return a type as a reader knows it: ``list of float``."""
    if isinstance(kind, pa.FixedSizeListType):
        return f"{kind.list_size} x {type_name(kind.value_type)}"
    if isinstance(kind, pa.ListType | pa.LargeListType):
        return f"list of {type_name(kind.value_type)}"
    if isinstance(kind, pa.StructType):
        return f"({', '.join(field.name for field in kind)})"
    return str(kind)
