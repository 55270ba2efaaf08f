"""Commands over a site's whole cohort: check it, and see where a model looked."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import fail

from .options import SiteFolder, SiteName, StateFolder, open_private_site


def check(
    folder: SiteFolder,
    experiment: Annotated[
        Path | None,
        typer.Option(help="Experiment file; checks as well what that experiment needs."),
    ] = None,
    name: SiteName = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Page to write; default: check.html in the site's state folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON.")] = False,
) -> None:
    """Read the whole cohort, and say what is wrong with it and what the coordinator would learn.

    Ends with status 0, with 1 if there are warnings, with 2 if the site would not take part. It
    can be interrupted; a second run continues.
    """
    from fedrad.exchange.experiment import read_experiment

    site = open_private_site(folder, name=name)
    wanted = None if experiment is None else read_experiment(experiment)[0]
    from fedrad.client.preflight.check import check_site
    from fedrad.models.weight_folders import add_weight_folder

    if experiment is not None:
        add_weight_folder(experiment.parent)
    try:
        status = check_site(site, wanted, html, as_json=as_json)
    except KeyboardInterrupt:
        print("interrupted; what was read is kept, run it again to continue", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(status)


def explain(
    folder: SiteFolder,
    model: Annotated[Path, typer.Option(help="File model.safetensors of the experiment.")],
    experiment: Annotated[
        Path, typer.Option(help="Experiment file that the model was trained with.")
    ] = Path("experiment.toml"),
    outcome: Annotated[
        str | None, typer.Option(help="Outcome to explain; default: the first of the experiment.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Number of test patients; highest scores first.")
    ] = 8,
    file: Annotated[
        list[str] | None,
        typer.Option(
            help="An image as the cohort table names it, instead of test patients. Repeat for each."
        ),
    ] = None,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show where the model looked (Grad-CAM) for some test patients; the pictures stay here."""
    from fedrad.exchange.experiment import read_experiment

    settings = read_experiment(experiment)[0]
    site = open_private_site(folder, name=name, state=state)
    if not model.is_file():
        fail(f"{model}: no such file")
    from fedrad.client.participant.site_data import SiteData
    from fedrad.client.predict.explain import write_explanations
    from fedrad.models.weight_folders import add_weight_folder

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    add_weight_folder(experiment.parent)
    written = write_explanations(
        SiteData(site, settings, record_division=False),
        model,
        outcome or settings.outcomes[0],
        count=count,
        files=file or [],
    )
    print(f"{written}: pictures and images.csv; they hold patient data and were sent to nobody")
