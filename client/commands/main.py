"""`fedrad-site`: the commands of a hospital's engineer."""

from fedrad.system.no_telemetry import be_quiet

be_quiet()

import logging
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedrad.flower.internals import FlowerMovedError

from . import node as taking_part
from . import officer
from .options import Folder, SiteName, StateFolder, fail

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One hospital in a federation. Research use only; not a medical device.",
)
for command in (
    taking_part.join,
    taking_part.start,
    taking_part.stop,
    officer.approve,
    officer.ledger,
):
    app.command()(command)


@app.command()
def init(folder: Folder = Path(".")) -> None:
    """Write a commented site.toml to start from."""
    file = folder / "site.toml"
    if file.exists():
        fail(f"{file}: exists already")
    if not folder.is_dir():
        fail(f"{folder}: no such folder")
    shutil.copyfile(Path(__file__).parent / "templates" / "site.toml", file)
    print(f"{file} written; edit it, the comments say how")


@app.command()
def check(
    folder: Folder,
    experiment: Annotated[
        Path | None, typer.Option(help="Experiment file: checks what it needs as well.")
    ] = None,
    name: SiteName = None,
    html: Annotated[
        Path | None, typer.Option(help="Page to write; default: check.html in the state folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that was found.")] = False,
) -> None:
    """Read the whole cohort, and say what is wrong with it and what the coordinator would learn.

    Ends with 0, with 1 for warnings, with 2 where the site would not take part. Can be
    interrupted; a second run continues.
    """
    from fedrad.client.preflight.check import check_site
    from fedrad.client.problems import SiteProblem
    from fedrad.client.settings import open_site
    from fedrad.exchange.experiment import ExperimentError, read_experiment
    from fedrad.models.weight_folders import look_in

    try:
        wanted = None
        if experiment is not None:
            wanted = read_experiment(experiment)[0]
            look_in(experiment.parent)
        status = check_site(open_site(folder, name=name), wanted, html, as_json=as_json)
    except (ExperimentError, SiteProblem) as problem:
        fail(str(problem))
    except OSError as error:
        fail(f"check.html cannot be written: {error}")
    except KeyboardInterrupt:
        print("interrupted; what was read is kept, run it again to continue", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(status)


@app.command()
def explain(
    folder: Folder,
    model: Annotated[Path, typer.Option(help="model.safetensors of the experiment.")],
    experiment: Annotated[Path, typer.Option(help="Experiment file.")] = Path("experiment.toml"),
    outcome: Annotated[str | None, typer.Option(help="Outcome; the first, if not given.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Test patients, highest scores first.")] = 8,
    file: Annotated[
        list[str] | None, typer.Option(help="Image as in the cohort table, instead; repeat.")
    ] = None,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show where the model looked (Grad-CAM) for some test patients; the pictures stay here."""
    from fedrad.client.participant.site_data import SiteData
    from fedrad.client.predict.explain import write_explanations
    from fedrad.client.problems import SiteProblem
    from fedrad.client.settings import open_site
    from fedrad.exchange.experiment import ExperimentError, read_experiment
    from fedrad.models.weight_folders import look_in

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = read_experiment(experiment)[0]
        look_in(experiment.parent)
        data = SiteData(open_site(folder, name=name, state=state), settings)
        written = write_explanations(
            data, model, outcome or settings.outcomes[0], count=count, files=file or []
        )
    except (ExperimentError, SiteProblem) as problem:
        fail(str(problem))
    print(f"{written}: pictures and images.csv; they hold patient data and were sent to nobody")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="model.safetensors that `fedrad export` wrote.")],
    files: Annotated[list[str], typer.Argument(help="DICOM, PNG or JPEG files.")],
    prevalence: Annotated[
        list[str] | None,
        typer.Option(help="Local prevalence, in (0, 1); OUTCOME=P for one of several; repeat."),
    ] = None,
    cohort: Annotated[
        Path | None, typer.Option(help="Site folder whose images new ones are compared with.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all as JSON.")] = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Estimate outcomes for images of this hospital; nothing is sent.

    Ends with 0, with 1 where a file could not be used, with 2 where nothing was done.
    """
    import json

    from rich.console import Console

    from fedrad.client.predict.estimate import at_prevalence, open_model
    from fedrad.client.predict.estimate import predict as estimate
    from fedrad.client.predict.output import (
        likeness_in_words,
        predictions_csv,
        predictions_json,
        print_predictions,
    )
    from fedrad.client.problems import SiteProblem
    from fedrad.client.settings import open_site

    if out is not None and out.exists():
        fail(f"{out}: is there already")
    if out is not None and not out.parent.is_dir():
        fail(f"{out.parent}: no such folder")
    try:
        site = None if cohort is None else open_site(cohort, name=name, state=state)
        opened = at_prevalence(open_model(model), prevalence or [])
        found, yardstick = estimate(opened, files, site)
    except SiteProblem as problem:
        fail(str(problem))
    likeness = likeness_in_words(yardstick, site.name if site else None)
    if out is not None:
        out.write_text(predictions_csv(opened, found), encoding="utf-8")
    if as_json:
        print(json.dumps(predictions_json(opened, found, likeness), indent=1))
    else:
        print_predictions(opened, found, likeness, Console())
    raise SystemExit(int(any(one.reading.unusable is not None for one in found)))


@app.command()
def progression(
    files: Annotated[list[str], typer.Argument(help="DICOM, PNG or JPEG files.")],
    generator: Annotated[
        Path, typer.Option(help="A generator's model.safetensors, or the model zoo's folder.")
    ],
    towards: Annotated[str, typer.Option(help="Outcome to go towards.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    model: Annotated[
        Path | None, typer.Option(help="Exported classifier whose confidence is followed.")
    ] = None,
    mask: Annotated[
        str, typer.Option(help="Region: lungs, lungs-pspnet, none, or a PNG, white inside.")
    ] = "lungs",
    images: Annotated[int, typer.Option(help="Steps after the image itself, N.")] = 10,
    strength: Annotated[float, typer.Option(help="Share of the noise a step adds, γ.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Denoising steps from pure noise.")] = 50,
    guidance: Annotated[float, typer.Option(help="Of classifier-free guidance.")] = 7.5,
    outside: Annotated[float, typer.Option(help="How much stays outside the region, β₁.")] = 0.01,
    inside: Annotated[float, typer.Option(help="How much stays inside, β₂.")] = 0.75,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    batch: Annotated[int, typer.Option(help="Images edited at once.")] = 8,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Simulate how an image of this hospital would look with an outcome; nothing is sent.

    The pictures are invented by a network, and say so in their pixels. They are for research: no
    forecast for a patient. Ends with 0, with 1 where a file could not be used, with 2 where
    nothing was done.
    """
    import torch
    from pydantic import ValidationError

    from fedrad.client.predict.progression import prepare_progression, simulate_files
    from fedrad.client.problems import SiteProblem
    from fedrad.exchange.experiment import explain as in_words
    from fedrad.models.settings import ProgressionSettings

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fail(f"--out {out}: is there already; give a new or an empty folder")
    if device == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: PyTorch sees no GPU")
    if device not in ("cpu", "cuda"):
        fail(f"--device {device}: cpu or cuda")
    mask_file = None if mask in ("none", "lungs", "lungs-pspnet") else Path(mask)
    if mask_file is not None and not mask_file.is_file():
        fail(f"--mask {mask}: lungs, lungs-pspnet, none, or a file; there is none of this name")
    try:
        settings = ProgressionSettings.model_validate(
            {
                "images": images,
                "strength": strength,
                "steps": steps,
                "guidance": guidance,
                "outside": outside,
                "inside": inside,
                "seed": seed,
                "batch": batch,
                "mask": "none" if mask_file else mask,
            }
        )
        asked = prepare_progression(
            generator, towards, settings, classifier=model, mask_file=mask_file
        )
        unusable = simulate_files(asked, files, out, torch.device(device))
    except ValidationError as error:
        fail(in_words(error, "progression", ProgressionSettings))
    except SiteProblem as problem:
        fail(str(problem))
    for file, why in unusable:
        print(f"{file}: {why}", file=sys.stderr)
    print(
        f"{out}: {len(files) - len(unusable)} simulated progressions: invented pictures, for "
        "research only; they were sent to nobody"
    )
    raise SystemExit(1 if unusable else 0)


def main() -> None:
    """Entry point of `fedrad-site`."""
    try:
        app()
    except FlowerMovedError as moved:
        fail(str(moved))
