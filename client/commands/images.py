"""Commands over single images of a hospital: estimates of outcomes, simulated progressions."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import fail
from fedrad.system.text import visible

from .options import SiteName, StateFolder, open_private_site

MASKS = ("none", "lungs", "lungs-pspnet")
"""Regions that `--mask` takes by name; other values are files."""
ImageFiles = Annotated[list[str], typer.Argument(help="DICOM, PNG or JPEG files.")]


def predict(
    model: Annotated[
        Path, typer.Argument(help="File model.safetensors that `fedrad export` wrote.")
    ],
    files: ImageFiles,
    prevalence: Annotated[
        list[str] | None,
        typer.Option(
            help="Prevalence of the outcome at this hospital, in (0, 1), for which probabilities "
            "are computed. With several outcomes write OUTCOME=P. Repeat for each."
        ),
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a site; says whether the images are like those of its cohort."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON.")] = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Estimate outcomes for images of this hospital; nothing is sent.

    Ends with status 0, with 1 if a file could not be used, with 2 if nothing was done.
    """
    if out is not None and os.path.lexists(out):
        fail(f"{out}: is there already")
    if out is not None and not out.parent.is_dir():
        fail(f"{out.parent}: no such folder")
    if not model.is_file():
        fail(f"{model}: no such file")

    site = None if cohort is None else open_private_site(cohort, name=name, state=state)
    import json

    from fedrad.client.predict.estimate import at_prevalence, open_model
    from fedrad.client.predict.estimate import predict as estimate
    from fedrad.client.predict.output import (
        likeness_in_words,
        predictions_csv,
        predictions_json,
        print_predictions,
    )
    from fedrad.client.problems import SiteProblem
    from fedrad.system.terminal import PlainConsole

    opened = open_model(model)
    prevalences = _prevalences(prevalence or [], opened.record.outputs)
    try:
        opened = at_prevalence(opened, prevalences)
    except SiteProblem as problem:  # its text begins with the word "prevalence"
        fail(f"--{problem}")
    predictions, yardstick = estimate(opened, files, site)
    likeness = likeness_in_words(yardstick, site.name if site else None)
    try:
        if as_json:
            print(json.dumps(predictions_json(opened, predictions, likeness), indent=1), flush=True)
        else:
            print_predictions(opened, predictions, likeness, PlainConsole())
    finally:  # also if the terminal takes no more
        if out is not None:
            _write_csv(out, predictions_csv(opened, predictions))
    raise SystemExit(int(any(one.reading.unusable is not None for one in predictions)))


def _write_csv(file: Path, table: str) -> None:
    from fedrad.system.files import write_whole

    try:
        write_whole(file, table)
    except OSError as error:
        fail(f"{file}: cannot be written ({error.strerror}); the estimates are shown above")


def _prevalences(options: Sequence[str], outcomes: Sequence[str]) -> dict[str, float]:
    """Outcome -> prevalence, from options `OUTCOME=P`, or `P` if there is only one outcome."""
    prevalences = {}
    for option in options:
        outcome, equals, value = option.rpartition("=")
        if not equals and len(outcomes) == 1:
            outcome = outcomes[0]
        if outcome not in outcomes:
            fail(f"--prevalence {option}: write OUTCOME=P with one of {', '.join(outcomes)}")
        try:
            prevalences[outcome] = float(value)
        except ValueError:
            fail(f"--prevalence {option}: a number between 0 and 1, both excluded")
    return prevalences


def progression(
    files: ImageFiles,
    generator: Annotated[
        Path,
        typer.Option(help="Generator: its model.safetensors, or the folder of the model zoo's."),
    ],
    towards: Annotated[str, typer.Option(help="Outcome towards which the images are edited.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    model: Annotated[
        Path | None,
        typer.Option(help="Exported classifier; its probability is shown for every picture."),
    ] = None,
    mask: Annotated[
        str,
        typer.Option(
            help="Region that is edited: lungs, lungs-pspnet, none for the whole image, or a PNG "
            "file that is white inside the region."
        ),
    ] = "lungs",
    images: Annotated[
        int, typer.Option(help="Number of edited pictures after the image itself, N.")
    ] = 10,
    strength: Annotated[
        float, typer.Option(help="Share of the noise that each edit adds before denoising, γ.")
    ] = 0.5,
    steps: Annotated[int, typer.Option(help="Number of denoising steps from pure noise.")] = 50,
    guidance: Annotated[
        float,
        typer.Option(help="Scale of classifier-free guidance; higher follows the outcome more."),
    ] = 7.5,
    outside: Annotated[
        float, typer.Option(help="Share of each edit that is kept outside the region, β₁.")
    ] = 0.01,
    inside: Annotated[
        float, typer.Option(help="Share of each edit that is kept inside the region, β₂.")
    ] = 0.75,
    seed: Annotated[
        int, typer.Option(help="Seed of the random noise; the same seed gives the same pictures.")
    ] = 0,
    batch: Annotated[int, typer.Option(help="Number of images that are edited at once.")] = 8,
    device: Annotated[str, typer.Option(help="Device to compute on: cpu or cuda.")] = "cpu",
) -> None:
    """Simulate how an image of this hospital would look with an outcome; nothing is sent.

    The pictures are invented by a network, and say so in their pixels. They are for research: no
    forecast for a patient. Ends with status 0, with 1 if a file could not be used, with 2 if
    nothing was done.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fail(f"--out {out}: is there already; give a new or an empty folder")
    if device not in ("cpu", "cuda"):
        fail(f"--device {device}: cpu or cuda")
    mask_file = None if mask in MASKS else Path(mask)
    if mask_file is not None and not mask_file.is_file():
        fail(f"--mask {mask}: lungs, lungs-pspnet, none, or a file; there is none of this name")
    from pydantic import ValidationError

    from fedrad.exchange.validation_errors import explain_validation_error
    from fedrad.models.settings import ProgressionSettings

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
    except ValidationError as error:
        fail(explain_validation_error(error, "progression", ProgressionSettings))
    if not generator.exists():
        fail(f"{generator}: no such file")
    import torch

    from fedrad.client.predict.progression import prepare_progression, simulate_files

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if device == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: PyTorch sees no GPU")
    asked = prepare_progression(generator, towards, settings, classifier=model, mask_file=mask_file)
    unusable = simulate_files(asked, files, out, torch.device(device))
    for file, why in unusable:
        print(f"{visible(file)}: {why}", file=sys.stderr)
    print(
        f"{out}: {len(files) - len(unusable)} simulated progressions: invented pictures, for "
        "research only; they were sent to nobody"
    )
    raise SystemExit(1 if unusable else 0)
