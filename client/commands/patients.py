"""`fedrad-site withdraw`: a patient takes back the consent."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrad.system.commands import fail

from .options import DecidedBy, SiteFolder, SiteName, StateFolder, Yes, open_private_site, this_user

if TYPE_CHECKING:
    from fedrad.client.participant.withdrawal import KnownPatient, Removed
    from fedrad.client.settings import Site


def withdraw(
    folder: SiteFolder,
    patient: Annotated[
        list[str] | None, typer.Argument(help="Patient numbers, as in the cohort table.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="File of patient numbers, one per line, or a CSV table with the column of "
            "patients."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also if a number is neither in the table nor in a record of this site, or if the "
            "table has another spelling of it.",
        ),
    ] = False,
    by: DecidedBy = None,
    yes: Yes = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Withdraw patients: no experiment reads them any more, and what is kept of them is removed.

    Says which models were trained on them. It cannot be taken back.
    """
    site = open_private_site(folder, name=name, state=state)
    if bool(patient) == (file is not None):
        fail("give patient numbers, or --file with a list of them")

    from fedrad.client.cohort.patient_list import read_patient_list
    from fedrad.client.participant.withdrawal import look_up
    from fedrad.client.participant.withdrawal import withdraw as withdraw_patients
    from fedrad.client.policy.ledger_heads import write_head_of

    given = read_patient_list(file, site) if file else patient or []
    numbers = list(dict.fromkeys(number.strip() for number in given if number.strip()))
    if not numbers:
        fail("no patient number was given")
    patients = look_up(site, numbers)
    for one in patients:
        _show(one)
    unknown = [one for one in patients if not one.is_known]
    if unknown and not force:
        fail(
            f"nothing was done: {len(unknown)} of {len(patients)} numbers are neither in the table "
            "nor in a record. Correct them; or record them with --force, so that these patients "
            "stay out if they come into the table later"
        )
    given_numbers = {one.number for one in patients}
    other = sorted({n for one in patients for n in one.similar} - given_numbers)
    if other and not force:
        spelled = ", ".join(map(_visible, other))
        fail(
            f"nothing was done: {spelled} may be the same patient in another spelling. Give these "
            "numbers too; or --force, if they are other patients"
        )
    if not yes and not typer.confirm(
        f"Withdraw {_patients(len(patients))} from everything that follows? It cannot be taken "
        "back."
    ):
        fail("nothing was done")
    try:
        removed = withdraw_patients(site, patients, by or this_user())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}; run it again to complete it")
    write_head_of(site)
    _report(site, patients, removed)


def _visible(number: str) -> str:
    """A patient number, with escapes for what cannot be seen."""
    return number if number.isascii() else ascii(number)


def _show(patient: "KnownPatient") -> None:
    """What the site knows of a patient, and which models were trained on it."""
    print(f"{patient.number}:")
    if patient.listed:
        print(f"  - {patient.listed.rows} rows in the cohort table")
    else:
        near = f"; is {', '.join(patient.similar)} meant?" if patient.similar else ""
        print(f"  - not in the cohort table{near}")
    if patient.withdrawn:
        print("  - withdrawn before; what is left is removed")
    for training in patient.trained:
        since = f", since {training.since[:10]}" if training.since else ""
        print(
            f"  - trained a model: {training.name or 'experiment without a name'}{since}; identity "
            f"{training.identity}"
        )
        if training.local_model:
            print(f"    the local-only model is kept here: {training.local_model}")
    for experiment, parts in patient.counted.items():
        print(f"  - counted in released figures: {experiment} ({', '.join(parts)})")
    if not patient.trained:
        print("  - trained no model here")


def _report(site: "Site", patients: Sequence["KnownPatient"], removed: "Removed") -> None:
    print(
        f"\nWithdrawn: {_patients(len(patients))}. No experiment reads them any more, also none "
        "that runs now; the ledger has it.\n"
        f"Removed: decoded images of {removed.images} files, scores in {removed.scores} files, "
        f"{removed.progressions} simulated progressions, {removed.explanations} explanations, the "
        "stored activations and check.html."
    )
    if any(one.trained for one in patients):
        print(
            "Models that were trained on them, and models trained further from these, cannot "
            "forget them. Each names the experiment by its identity (lineage in "
            "model.safetensors): write to the coordinator."
        )
    print(
        "Not removed: the files themselves and the table, which are yours; the ledger; backups; "
        "pages and pictures written elsewhere. Decoded images of files that have changed since, or "
        "that the table no longer names, cannot be found: to remove them too, stop the node and "
        f"delete {site.state / 'images'}; the other images are decoded again. A visit that runs "
        "now may end without an answer; it is asked again."
    )


def _patients(number: int) -> str:
    return "1 patient" if number == 1 else f"{number} patients"
