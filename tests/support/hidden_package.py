"""Python processes that lack this package, as nodes on which it was never installed."""

from pathlib import Path

_HIDE = """
import sys
class Hide:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] == "dfdm_ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide)
"""


def hide_package(folder: Path) -> None:
    """Make Python processes lack dfdm_ray that have ``folder`` in their ``PYTHONPATH``."""
    (folder / "sitecustomize.py").write_text(_HIDE)
