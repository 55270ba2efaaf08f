"""Which of the site's units trained a model: the site's own memory, so that no earlier experiment's
training patients are tested as if they were new."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from fedrad.client.problems import SiteProblem
from fedrad.exchange.figures import SplitPart
from fedrad.exchange.lineage import Lineage
from fedrad.system.files import JsonFile, UnreadableFileError


class _Record(BaseModel):
    format: Literal[1] = 1
    pseudonyms: str
    keys: list[str] = []
    """Sorted."""


class TrainedPatients:
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
        more = set(keys)
        if not more:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(experiment)
        with _readable(), file.changed(lambda: _Record(pseudonyms=self.pseudonyms)) as record:
            self._check(file.path, record)
            record.keys = sorted(more.union(record.keys))

    def keys(self, experiment: str) -> frozenset[str] | None:
        """Units that an experiment trained on here; None where there is no record of it.

        Raises SiteProblem for a record that cannot be read: it is then as good as lost.
        """
        file = self._file(experiment)
        with _readable():
            record = file.read()
        if record is None:
            return None
        self._check(file.path, record)
        return frozenset(record.keys)

    def _check(self, file: Path, record: _Record) -> None:
        if record.pseudonyms != self.pseudonyms:
            raise SiteProblem(
                "trained on test patients",
                f"{file}: was made with other pseudonyms than this site makes now, so its patients "
                "cannot be recognised; restore the state folder it belongs to",
            )

    def _file(self, experiment: str) -> JsonFile[_Record]:
        return JsonFile(self.folder / f"{experiment}.json", _Record)


@contextmanager
def _readable() -> Iterator[None]:
    """Turns a record that cannot be read into a SiteProblem that says what to do."""
    try:
        yield
    except UnreadableFileError as error:
        raise SiteProblem("trained on test patients", f"{error}; restore it") from error


def check_lineage(
    lineage: Lineage,
    site: str,
    trained: TrainedPatients,
    held_out: Mapping[SplitPart, Iterable[str]],
    *,
    what: str = "the base weights",
) -> None:
    """Check that no patient who is to be held out trained the weights that are started from.

    Validation patients count like test patients: threshold, calibration and ensemble weight are
    chosen on them, and would be chosen for a model that knows its patients.

    Parameters
    ----------
    lineage
        The experiments that trained the weights.
    site
        Name of this site.
    trained
        Its record of whom it trained on.
    held_out
        Part of the division -> pseudonyms of its patients.
    what
        What the weights are called in errors.

    Raises
    ------
    SiteProblem
        "trained on test patients": a held-out patient trained them, or this site did and its
        record is gone.
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
