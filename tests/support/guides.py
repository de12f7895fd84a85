"""The shell code of the guides that tests run."""

import re

from support.cluster_files import REPOSITORY

_FENCE = re.compile(r"(<!-- not run: .+ -->\n)?^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def guides() -> dict[str, list[str]]:
    """Return the fences of each guide that are to run, in order."""
    found = {
        path.stem: [code for mark, code in _FENCE.findall(path.read_text()) if not mark]
        for path in sorted((REPOSITORY / "docs").glob("*.md"))
    }
    return {name: codes for name, codes in found.items() if codes}
