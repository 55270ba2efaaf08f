"""Local-only models that their sites share, so that other sites score them."""

from pathlib import Path

import numpy as np

from fedrad.exchange.encoding import Packed
from fedrad.exchange.update import Manifest


class SharedModels:
    """Packed local-only models as received, one per site, in a folder of the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, site: str, manifest: Manifest, packed: Packed) -> None:
        """Write the model of a site; an earlier one of the same site is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        np.save(self.folder / f"{site}.npy", packed)
        (self.folder / f"{site}.json").write_text(manifest.model_dump_json(), encoding="utf-8")

    def load(self, site: str) -> tuple[Manifest, Packed] | None:
        """The model of a site; None where the site sent none."""
        manifest = self.folder / f"{site}.json"
        if not manifest.is_file():
            return None
        text = manifest.read_text("utf-8")
        return Manifest.model_validate_json(text), np.load(self.folder / f"{site}.npy")
