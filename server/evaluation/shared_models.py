"""Local-only models that their sites share, on their way to be scored at others."""

from pathlib import Path

import numpy as np

from fedrad.exchange.encoding import Packed
from fedrad.exchange.update import Manifest


class Travellers:
    """Packed models as they came, one site each, in a folder of the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, site: str, manifest: Manifest, packed: Packed) -> None:
        """Keep a model; what was sent before by the site is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        np.save(self.folder / f"{site}.npy", packed)
        (self.folder / f"{site}.json").write_text(manifest.model_dump_json(), encoding="utf-8")

    def of(self, site: str) -> tuple[Manifest, Packed] | None:
        """The model of a site; None where it sent none."""
        manifest = self.folder / f"{site}.json"
        if not manifest.is_file():
            return None
        text = manifest.read_text("utf-8")
        return Manifest.model_validate_json(text), np.load(self.folder / f"{site}.npy")
