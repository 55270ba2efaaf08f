"""Store of the scores of a site's units."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from fedrad.client.problems import SiteProblem
from fedrad.exchange.figures import ModelName, SplitPart
from fedrad.stats.exact import Logits
from fedrad.system.files import replacing
from fedrad.system.folders import make_folder


class ScoreStore:
    """Raw logits (n, K) of each model, with the pseudonyms of the patients of the units, in
    `PART/MODEL.npz` of a folder. They are never sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        part: SplitPart,
        model: ModelName,
        keys: Sequence[str],
        logits: Logits,
        digest: str,
    ) -> None:
        """Store the logits of a model, in place of earlier ones.

        Parameters
        ----------
        part, model
            Part of the split, and model.
        keys
            Pseudonym of the patient of each of the n units.
        logits
            (n, K) raw logits.
        digest
            Of the weights of the model.
        """
        file = self._file(part, model)
        make_folder(file.parent)
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, logits=logits, keys=np.array(keys, dtype=str), digest=digest)

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

    def digest(self, part: SplitPart, model: ModelName) -> str:
        """Digest of the weights of a model whose logits are stored."""
        with np.load(self._file(part, model), allow_pickle=False) as content:
            return str(content["digest"])

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
