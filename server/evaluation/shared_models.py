"""Local-only models that their sites share, so that other sites score them."""

from pathlib import Path

import numpy as np

from fedrad.exchange.encoding import Packed
from fedrad.exchange.update import Manifest
from fedrad.system.files import JsonFile, replacing
from fedrad.system.folders import make_folder


class SharedModels:
    """Packed local-only models as received, one per site, in a folder of the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, site: str, manifest: Manifest, packed: Packed) -> None:
        """Write the model of a site; an earlier one of the same site is replaced.

        The manifest is written last; without it the model does not count.
        """
        make_folder(self.folder)
        note = self._manifest_of(site)
        note.path.unlink(missing_ok=True)  # it counts only beside its own values
        with (
            replacing(self.folder / f"{site}.npy") as temporary,
            temporary.open("wb") as stream,
        ):
            np.save(stream, packed)
        note.write(manifest)

    def has(self, site: str) -> bool:
        """Whether the model of a site is here."""
        return self._manifest_of(site).path.is_file()

    def load(self, site: str) -> tuple[Manifest, Packed] | None:
        """The model of a site; None where the site sent none. Raises UnreadableFileError."""
        manifest = self._manifest_of(site).read()
        return None if manifest is None else (manifest, np.load(self.folder / f"{site}.npy"))

    def _manifest_of(self, site: str) -> JsonFile[Manifest]:
        return JsonFile(self.folder / f"{site}.json", Manifest)
