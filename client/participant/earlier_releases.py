"""Releases of earlier versions of fedrad, which kept no record of the patients whom they counted.

Such a version stored the release in `experiments/NAME-HASH/released/PART.json`, a digest and then
the message, and the scores with pseudonyms in `experiments/NAME-HASH/scores/`. HASH has 12
characters; later folders have the whole hash.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from fedrad.client.problems import SiteProblem

_FOLDER = re.compile(r"-([0-9a-f]{12})$")


@dataclass(frozen=True)
class EarlierRelease:
    """A release: first characters of the experiment's hash, part, pseudonyms of the patients whom
    it counted, and ε."""

    experiment: str
    part: str
    keys: frozenset[str]
    epsilon: float


def earlier_releases(experiments: Path) -> list[EarlierRelease]:
    """The releases in a site's folder `experiments`.

    Raises SiteProblem("cohort") if one cannot be read: its patients would be forgotten.
    """
    found = []
    files = sorted(experiments.glob("*/released/*.json"))
    if not files:
        return []
    from fedrad.exchange.figures import Release  # imports NumPy, which takes a while

    for file in files:
        folder = file.parents[1]
        if not (hashed := _FOLDER.search(folder.name)):
            continue
        try:
            release = Release.model_validate_json(file.read_text("utf-8").partition("\n")[2])
            keys = _scored(folder / "scores", release.part)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise SiteProblem(
                "cohort", f"{file}: cannot be read ({type(error).__name__}); restore it"
            ) from error
        found.append(EarlierRelease(hashed[1], release.part, keys, release.epsilon or 0.0))
    return found


def _scored(scores: Path, part: str) -> frozenset[str]:
    """Patients with a score in a part, in all folds if there are folds."""
    import numpy as np

    keys: set[str] = set()
    for file in scores.rglob("*.npz"):
        if file.parent.name == part:
            with np.load(file, allow_pickle=False) as content:
                keys.update(content["keys"].tolist())
    return frozenset(keys)
