"""Pictures of a cohort, read from the image store on access."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedrad.client.problems import SiteProblem

from .database import Database


class StoredImages:
    """Pictures of some files, read from the image store on access.

    It is array-like: `images[rows]`, with an int64 array or a slice, is a copy (n, size, size)
    float16 in [-1024, 1024]. Unusable files are black.
    """

    def __init__(self, database: Database, size: int, keys: Sequence[bytes]) -> None:
        self._database, self.size, self._keys = database, size, keys

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._keys)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(number of pictures, size, size)."""
        return len(self), self.size, self.size

    @property
    def keys(self) -> list[str]:
        """Key of each picture, from file content and settings; "" for an unusable file."""
        return [key.hex() for key in self._keys]

    def select(self, rows: NDArray[np.int64] | Sequence[int]) -> "StoredImages":
        """The pictures of these rows, not yet read."""
        return StoredImages(self._database, self.size, [self._keys[int(row)] for row in rows])

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float16]:
        """Read pictures. Raises SiteProblem("storage") if one is no longer stored."""
        keys = self._keys[rows] if isinstance(rows, slice) else [self._keys[int(r)] for r in rows]
        pictures = np.full((len(keys), self.size, self.size), -1024, np.float16)
        with (
            self._database.lmdb_errors_as_site_problems(),
            self._database.transaction() as transaction,
        ):
            for picture, key in zip(pictures, keys, strict=True):
                if key:
                    stored = transaction.get("pictures", key)
                    if stored is None:
                        raise SiteProblem(
                            "storage",
                            f"{self._database.folder}: a picture was dropped while in "
                            "use; raise images_gib in site.toml",
                        )
                    picture[:] = np.frombuffer(stored, np.float16).reshape(picture.shape)
        return pictures
