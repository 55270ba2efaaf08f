"""Which of the site's units trained a model: the site's own memory, so that no earlier experiment's
training patients are tested as if they were new."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.exchange.figures import Part
from fedrad.exchange.lineage import Lineage


class TrainedUnits:
    """`trained/EXPERIMENT.json` in the site's state folder: keys (pseudonyms) of the units that an
    experiment trained on here, by its identity. Never sent.

    `pseudonyms` tells one way of making keys from another: a record made in another way would match
    nobody, so it is refused like a lost one.
    """

    def __init__(self, folder: Path, pseudonyms: str) -> None:
        self.folder = folder
        self.pseudonyms = pseudonyms

    def record(self, experiment: str, keys: Iterable[str]) -> None:
        """Remember units, before they are trained on; what was remembered stays."""
        known = self.keys(experiment) or frozenset()
        all_keys = known | set(keys)
        if all_keys == known:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self._file(experiment).with_suffix(".partial")
        content = {"format": 1, "pseudonyms": self.pseudonyms, "keys": sorted(all_keys)}
        temporary.write_text(json.dumps(content, indent=0), encoding="utf-8")
        temporary.replace(self._file(experiment))

    def keys(self, experiment: str) -> frozenset[str] | None:
        """Units that an experiment trained on here; None where there is no record of it.

        Raises SiteProblem for a record that cannot be read: it is then as good as lost.
        """
        file = self._file(experiment)
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text("utf-8"))
            pseudonyms, keys = content["pseudonyms"], frozenset(map(str, content["keys"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SiteProblem(
                "trained on test patients", f"{file}: cannot be read ({error}); restore it"
            ) from error
        if pseudonyms != self.pseudonyms:
            raise SiteProblem(
                "trained on test patients",
                f"{file}: was made with other pseudonyms than this site makes now, so its patients "
                "cannot be recognised; restore the state folder it belongs to",
            )
        return keys

    def _file(self, experiment: str) -> Path:
        return self.folder / f"{experiment}.json"


def check_lineage(
    lineage: Lineage,
    site: str,
    trained: TrainedUnits,
    held_out: Mapping[Part, Iterable[str]],
    *,
    what: str = "the base weights",
) -> None:
    """Hold the ancestors of weights, called `what`, against the units that are to be held out, by
    part.

    Validation units count like test units: threshold, calibration and ensemble weight are chosen
    on them, and would be chosen for a model that knows its patients. Raises SiteProblem where a
    held-out unit trained an ancestor, or where this site did and its record is gone.
    """
    for ancestor in lineage:
        keys = trained.keys(ancestor.experiment)
        short = ancestor.experiment[:12]
        if keys is None:
            if site not in ancestor.sites:
                continue
            raise SiteProblem(
                "trained on test patients",
                f"{what}: trained here in experiment {short}, but {trained.folder} has no record "
                "of the patients: restore it, or ask for others",
            )
        for part, units in held_out.items():
            if again := len(keys.intersection(units)):
                raise SiteProblem(
                    "trained on test patients",
                    f"{again} {part} patients of this experiment trained {what} in experiment "
                    f"{short}: ask for that experiment's seed, outcomes and shares (then the same "
                    "patients are held out), or for others",
                )
