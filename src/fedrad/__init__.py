"""Hospitals fine-tune one chest-radiograph model together; the radiographs stay at home.

The names below are the interface for notebooks (docs/python.md). They are imported when they are
first used, so that `import fedrad` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedrad.deploy.notebook import (
        Results,
        SiteImages,
        load_model,
        load_results,
        predict,
        read_site,
        simulate,
    )
    from fedrad.system.errors import UserError

    __version__: str

__all__ = [
    "Results",
    "SiteImages",
    "UserError",
    "__version__",
    "load_model",
    "load_results",
    "predict",
    "read_site",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fedrad")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "fedrad.system.errors" if name == "UserError" else "fedrad.deploy.notebook"
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
