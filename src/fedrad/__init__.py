"""Hospitals fine-tune one chest-radiograph model together; the radiographs stay at home.

The names below are the interface for notebooks (docs/python.md). They are imported when they are
first used, so that `import fedrad` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedrad.client.predict.estimate import ExportedModel
    from fedrad.deploy.notebook.models import load_model, predict
    from fedrad.deploy.notebook.results import Results, load_results
    from fedrad.deploy.notebook.simulation import simulate
    from fedrad.deploy.notebook.sites import SiteImages, read_site
    from fedrad.server.federation.failure import ExperimentFailed
    from fedrad.system.errors import UserError

    __version__: str

__all__ = [
    "ExperimentFailed",
    "ExportedModel",
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

_MODULES = {
    "ExperimentFailed": "fedrad.server.federation.failure",
    "ExportedModel": "fedrad.client.predict.estimate",
    "Results": "fedrad.deploy.notebook.results",
    "SiteImages": "fedrad.deploy.notebook.sites",
    "UserError": "fedrad.system.errors",
    "load_model": "fedrad.deploy.notebook.models",
    "load_results": "fedrad.deploy.notebook.results",
    "predict": "fedrad.deploy.notebook.models",
    "read_site": "fedrad.deploy.notebook.sites",
    "simulate": "fedrad.deploy.notebook.simulation",
}
"""Name -> module that defines it."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fedrad")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
