"""Grad-CAM heat maps for some of the site's test patients. The pictures stay at the site."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedrad.client.participant.site_data import SiteData
from fedrad.client.participant.trained_patients import check_lineage
from fedrad.client.problems import SiteProblem
from fedrad.exchange.lineage import read_lineage
from fedrad.models.calibration import Calibration
from fedrad.models.gradcam import heat_maps
from fedrad.models.network import ResNet
from fedrad.models.training import score
from fedrad.models.weight_files import WeightsError, file_sha256, read_safetensors
from fedrad.models.weights import read_model
from fedrad.system.files import replacing
from fedrad.system.folders import make_folder
from fedrad.system.text import ESCAPED


@dataclass(frozen=True)
class _Case:
    file: Path
    image: NDArray[np.float16]
    heat: NDArray[np.float32]
    logit: float
    label: float


def write_explanations(
    data: SiteData, model_file: Path, outcome: str, *, count: int, files: list[str]
) -> Path:
    """Write Grad-CAM overlays of test patients into the site's state folder. Nothing is sent.

    Parameters
    ----------
    data
        The site's patients in the experiment.
    model_file
        `model.safetensors` of the experiment.
    outcome
        The outcome that is explained.
    count
        Number of test patients, highest scores first.
    files
        Names in the cohort table, which replace `count` if not empty.

    Returns
    -------
    Path
        The folder, with one PNG for each patient and `images.csv`.

    Raises
    ------
    SiteProblem
        For an unknown outcome or file, for a model with other outcomes or backbone than the
        experiment, and for one that was trained on patients who are test patients here.
    """
    network, metadata = _model(data, model_file)
    if outcome not in data.experiment.outcomes:
        raise SiteProblem(
            "outcome",
            f"no outcome {outcome!r}; it has {', '.join(data.experiment.outcomes)}",
        )
    check_lineage(
        read_lineage(metadata),
        data.site.name,
        data.trained_patients,
        {"test": data.keys("test")},
    )
    k = data.experiment.outcomes.index(outcome)
    units = [data.cohort.units[row] for row in data.rows["test"]]
    examples = data.parts["test"]
    logits = score(network, examples.images, device=data.device)[:, k]
    if files:
        chosen = _rows_of(files, [unit.file for unit in units], data)
    else:
        chosen = np.argsort(-logits, kind="stable")[:count].tolist()
    images = examples.images[np.array(chosen, dtype=np.int64)]
    heat = heat_maps(network, images, outcome=k, device=data.device)
    folder = data.folder / "explanations" / f"{outcome}-{file_sha256(model_file)[:12]}"
    cases = [
        _Case(units[row].file, images[i], heat[i], logits[row], examples.labels[row, k])
        for i, row in enumerate(chosen)
    ]
    _write(cases, outcome, _calibration(metadata, outcome), folder)
    return folder


def _model(data: SiteData, file: Path) -> tuple[ResNet, dict[str, str]]:
    """Network and metadata of a model file with the experiment's backbone and outcomes."""
    outcomes = data.experiment.outcomes
    try:
        _, metadata = read_safetensors(file)
        if metadata.get("outputs") != json.dumps(list(outcomes)):
            raise WeightsError(
                f"{file} is a model of {metadata.get('outputs', 'nothing it names')}, the "
                f"experiment's outcomes are {', '.join(outcomes)}: give the model of this one"
            )
        return read_model(file, ResNet(data.experiment.model, len(outcomes))), metadata
    except WeightsError as error:
        raise SiteProblem("weights", str(error)) from error


def _rows_of(names: list[str], files: list[Path], data: SiteData) -> list[int]:
    rows = []
    for name in names:
        file = (data.site.folder / name).resolve()
        if file not in files:
            raise SiteProblem(
                "cohort",
                f"{name} stands for no test patient of this experiment; "
                f"{len(files)} files do, and no other may be looked at",
            )
        rows.append(files.index(file))
    return rows


def _calibration(metadata: dict[str, str], outcome: str) -> Calibration | None:
    of_outcome = json.loads(metadata.get("calibration", "{}")).get(outcome)
    return Calibration.model_validate(of_outcome) if of_outcome else None


def _write(cases: list[_Case], outcome: str, calibration: Calibration | None, folder: Path) -> None:
    make_folder(folder)
    for old in folder.glob("*.png"):
        old.unlink()
    with (
        replacing(folder / "images.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=ESCAPED) as file,
    ):
        table = csv.writer(file)
        table.writerow(["picture", "file", "logit", "probability", "prevalence", outcome])
        for number, case in enumerate(cases, start=1):
            picture, caption = f"{number:03d}.png", f"{outcome}: logit {case.logit:.2f}"
            probability = prevalence = None
            if calibration:
                probability = round(float(calibration.probabilities(case.logit)), 4)
                prevalence = round(calibration.prevalence, 4)
                caption += f", probability {probability:.2f} (prevalence {prevalence:.2f})"
            label = "" if np.isnan(case.label) else int(case.label)
            table.writerow(
                [picture, case.file, round(case.logit, 4), probability, prevalence, label]
            )
            _draw(case, caption, folder / picture)


def _draw(case: _Case, caption: str, file: Path) -> None:
    """Draw the image, and beside it the image under the heat map, which is transparent at 0."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, title in zip(figure.subplots(1, 2), ("radiograph", "Grad-CAM"), strict=True):
        axes.imshow(case.image.astype(np.float32), cmap="gray", vmin=-1024, vmax=1024)
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    if case.heat.any():
        axes.imshow(case.heat, cmap="inferno", vmin=0, vmax=1, alpha=0.6 * case.heat)
    else:
        axes.set_title("Grad-CAM: no evidence for the outcome", fontsize=9)
    figure.suptitle(f"{caption}\nresearch use only; not a medical device", fontsize=9)
    with replacing(file, durable=False) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
