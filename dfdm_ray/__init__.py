"""Ray-native attribution of face-swap deepfake videos.

>>> import dfdm_ray
>>> model = dfdm_ray.load("dma_sta.pt")
>>> print(model.attribute("a.mp4"))
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfdm_ray.api.answer import Answer
    from dfdm_ray.api.dataset import attribute_dataset
    from dfdm_ray.api.load import load
    from dfdm_ray.api.model import Model
    from dfdm_ray.errors import DfdmError, RejectCode, UserError

__version__ = "0.1.0"

_PUBLIC = {
    "Answer": "api.answer",
    "DfdmError": "errors",
    "Model": "api.model",
    "RejectCode": "errors",
    "UserError": "errors",
    "attribute_dataset": "api.dataset",
    "load": "api.load",
}
"""Public names and their modules, which are imported when a name is used: torch and Ray take seconds."""

__all__ = ["Answer", "DfdmError", "Model", "RejectCode", "UserError", "attribute_dataset", "load"]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
