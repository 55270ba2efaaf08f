"""Stores at a site: scores of its units, and the figures that it has released."""

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from fedrad.client.problems import SiteProblem
from fedrad.exchange.figures import ModelName, Release, SplitPart
from fedrad.exchange.messages import ReleaseRequest
from fedrad.stats.exact import Logits
from fedrad.system.files import replacing, write_whole


class ScoreStore:
    """Raw logits (n, K) of each model, with the pseudonyms of the patients of the units, in
    `PART/MODEL.npz` of a folder. They are never sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, part: SplitPart, model: ModelName, keys: Sequence[str], logits: Logits) -> None:
        """Store the logits of a model, in place of earlier ones.

        Parameters
        ----------
        part, model
            Part of the split, and model.
        keys
            Pseudonym of the patient of each of the n units.
        logits
            (n, K) raw logits.
        """
        file = self._file(part, model)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, logits=logits, keys=np.array(keys, dtype=str))

    def read(self, part: SplitPart, model: ModelName, keys: Sequence[str]) -> Logits | None:
        """Logits of a model on exactly these units.

        Parameters
        ----------
        part, model
            Part of the split, and model.
        keys
            Pseudonym of the patient of each of the n units.

        Returns
        -------
        ndarray or None
            (n, K) raw logits; None if the model was not scored.

        Raises
        ------
        SiteProblem
            "cohort": the stored logits are of other units, because the cohort has changed.
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


def forget_scores(experiments: Path, patients: Collection[str]) -> int:
    """Remove the scores of patients in all experiments of a site.

    Parameters
    ----------
    experiments
        The folder `experiments` of the state folder.
    patients
        Pseudonyms.

    Returns
    -------
    int
        Number of files that held scores of them.
    """
    changed = 0
    for file in sorted(experiments.glob("*/scores/**/*.npz")):
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        stay = np.array([key not in patients for key in arrays["keys"].tolist()], dtype=bool)
        if stay.all():
            continue
        for name in ("keys", "logits"):
            arrays[name] = arrays[name][stay]
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)
        changed += 1
    return changed


class ReleaseStore:
    """The releases of an experiment, in `PART.json` of a folder. Each file holds the release as it
    was sent, and a digest of the request and of the scores from which it was computed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def earlier(self, part: SplitPart, digest: str) -> Release | None:
        """The earlier release on this part; None if there is none.

        Raises SiteProblem("released") if it answered another request or was computed from other
        scores: two releases on the same patients disclose more than one.
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
        """Store a release, before it is sent."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{release.part}.json"
        write_whole(file, f"{digest}\n{release.model_dump_json()}\n")


def question_digest(request: ReleaseRequest, scores: Sequence[Mapping[ModelName, Logits]]) -> str:
    """SHA-256 of a request for a release and of the scores from which it is computed: those of the
    single split, or of each fold."""
    digest = sha256(request.model_dump_json().encode())
    for of_fold in scores:
        for model in sorted(of_fold):
            digest.update(model.encode())
            digest.update(np.ascontiguousarray(of_fold[model]).tobytes())
    return digest.hexdigest()
