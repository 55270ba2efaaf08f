"""Scores of a site's own units, kept at the site between scoring and the one release."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from fedrad.client.problems import SiteProblem
from fedrad.exchange.figures import ModelName, Release, SplitPart
from fedrad.exchange.messages import ReleaseRequest
from fedrad.stats.exact import Logits
from fedrad.system.files import replacing, write_whole


class ScoreStore:
    """`scores/PART/MODEL.npz` in the experiment's folder at the site: raw logits (n, K) of each
    model, with the pseudonyms of the units. Never sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, part: SplitPart, model: ModelName, keys: Sequence[str], logits: Logits) -> None:
        """Keep the logits of a model; those of an earlier asking are replaced."""
        file = self._file(part, model)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, logits=logits, keys=np.array(keys, dtype=str))

    def read(self, part: SplitPart, model: ModelName, keys: Sequence[str]) -> Logits | None:
        """The logits of a model on exactly these units, in this order; None where it has none.

        Raises SiteProblem where the cohort changed since: figures would be of other units.
        """
        file = self._file(part, model)
        if not file.is_file():
            return None
        with np.load(file, allow_pickle=False) as content:
            if content["keys"].tolist() != list(keys):
                raise SiteProblem(
                    "cohort",
                    f"{file}: was made of other {part} units than the cohort has now; "
                    "the cohort table or its images changed during the experiment",
                )
            return np.asarray(content["logits"], dtype=np.float64)

    def _file(self, part: SplitPart, model: ModelName) -> Path:
        return self.folder / part / f"{model.replace(':', '-of-')}.npz"


class ReleaseStore:
    """`released/PART.json` in the experiment's folder at the site: what was released, word for
    word, with a digest of the question and of the scores behind the answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def earlier(self, part: SplitPart, digest: str) -> Release | None:
        """What was released on this part already; None where nothing was.

        Raises SiteProblem("released") where that answered another question, or one on other
        scores: two releases on the same patients tell more than either.
        """
        file = self.folder / f"{part}.json"
        if not file.is_file():
            return None
        first, _, text = file.read_text("utf-8").partition("\n")
        if first != digest:
            raise SiteProblem(
                "released",
                f"{file}: other figures of the {part} units were released for this "
                "experiment already",
            )
        return Release.model_validate_json(text)

    def record(self, digest: str, release: Release) -> None:
        """Write a release down, before it is sent."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{release.part}.json"
        write_whole(file, f"{digest}\n{release.model_dump_json()}\n")


def question_digest(request: ReleaseRequest, scores: Sequence[Mapping[ModelName, Logits]]) -> str:
    """SHA-256 of a question and of the scores it is about: those of one split, or of each fold."""
    found = sha256(request.model_dump_json().encode())
    for of_fold in scores:
        for model in sorted(of_fold):
            found.update(model.encode())
            found.update(np.ascontiguousarray(of_fold[model]).tobytes())
    return found.hexdigest()
