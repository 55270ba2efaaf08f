"""Export of a finished experiment's model, in forms that others can use.

The folder that `fedrad export` writes:

    model.safetensors   weights, with a `ModelRecord` and the lineage as metadata
    model.onnx          the same network, checked against PyTorch
    bundle/             the same network as a MONAI bundle
    MODEL_CARD.md       purpose, training, figures and limits
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from safetensors.torch import save_file

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.histogram import GRID
from fedrad.models.network import ResNet
from fedrad.models.record import ModelRecord, Threshold, load_model
from fedrad.models.tasks import task_of
from fedrad.models.weight_files import WeightsError, file_sha256, read_safetensors
from fedrad.server.results.choices import DEFAULT_THRESHOLD
from fedrad.server.results.summary import Summary, read_summary
from fedrad.system.errors import UserError
from fedrad.system.folders import make_folder
from fedrad.system.private import set_privacy

from .model_card import model_card
from .monai_bundle import write_bundle


class ExportFailed(UserError):
    """A model cannot be exported. The text says why, and what to do."""


OnnxWriter = Callable[[ResNet, ModelRecord, Path], None]


def export(folder: Path, to: Path, *, reader: str, onnx: bool = True) -> ModelRecord:
    """Export the model of an experiment. The new folder appears complete or not at all.

    Parameters
    ----------
    folder
        Folder of the experiment.
    to
        Folder to write, which must not exist.
    reader
        Dotted name of the MONAI transform with which the bundle reads a radiograph.
    onnx
        Whether to write the ONNX file, which needs the extra `export`.

    Returns
    -------
    ModelRecord
        The record in the exported file.

    Raises
    ------
    ExportFailed
        If the experiment is not completed, if its model is not that of its summary, if `to` exists,
        if the extra `export` is missing, or if the ONNX file does not reproduce PyTorch's logits.
    """
    if to.exists():
        raise ExportFailed(f"{to}: is there already; give another folder with --to, or remove it")
    if not to.parent.is_dir():
        raise ExportFailed(f"{to.parent}: no such folder")
    write_onnx = _onnx_writer() if onnx else None
    summary = _completed_summary(folder)
    partial = to.with_name(f"{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial)
    try:
        network, record = _write_safetensors(summary, folder, partial / "model.safetensors")
        text = model_card(summary, record)
        (partial / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        if write_onnx:
            write_onnx(network, record, partial / "model.onnx")
        write_bundle(network, record, text, partial / "bundle", reader=reader)
        set_privacy(partial, private=True)  # libraries ask the umask
        partial.rename(to)
    except WeightsError as error:
        raise ExportFailed(str(error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _onnx_writer() -> OnnxWriter:
    try:
        from .onnx_file import write_onnx
    except ImportError as error:
        raise ExportFailed(
            f"ONNX needs a package that is not installed ({error.name}): "
            'pip install "fedrad[export]", or leave the file out with --no-onnx'
        ) from error
    return write_onnx


def _completed_summary(folder: Path) -> Summary:
    """The summary of a completed experiment whose model file is unchanged."""
    try:
        summary = read_summary(folder)
    except FileNotFoundError:
        raise ExportFailed(
            f"{folder}: holds no summary.json; give the folder of an experiment"
        ) from None
    except ValidationError as error:
        raise ExportFailed(
            f"{folder / 'summary.json'}: not a summary of fedrad: {error}"
        ) from error
    task = task_of(summary.experiment)
    if not task.tests_patients:
        raise ExportFailed(
            f"{folder}: trained a {task.product}, which has no threshold, calibration or test "
            "figures: its model.safetensors is what `fedrad-site progression` takes, as it is"
        )
    if summary.status != "completed":
        raise ExportFailed(
            f"{folder}: the experiment is not completed ({summary.status}: {summary.why}), so its "
            "model has no threshold, calibration or test figures: `fedrad resume` it first"
        )
    file = folder / "model.safetensors"
    if not file.is_file():
        raise ExportFailed(f"{file}: is gone; put it back, or run the experiment again")
    if file_sha256(file) != summary.provenance.model_sha256:
        raise ExportFailed(
            f"{file}: is not the model of which summary.json speaks; put back the one with SHA-256 "
            f"{summary.provenance.model_sha256}"
        )
    return summary


def model_record(summary: Summary) -> ModelRecord:
    """The record of a completed experiment's model."""
    experiment = Experiment.model_validate(summary.experiment)
    chosen = {o.outcome: o for o in summary.overall if o.model == "global"}
    return ModelRecord(
        name=experiment.name,
        experiment=experiment.identity,
        # only the name of the base weights' file, not its folder
        model=experiment.model.model_copy(update={"weights": Path(experiment.model.weights).name}),
        outputs=tuple(experiment.outcomes),
        thresholds={
            outcome: Threshold(
                logit=float(GRID[DEFAULT_THRESHOLD])
                if overall.threshold is None
                else overall.threshold,
                chosen_on="validation" if overall.threshold_from == "validation" else "default",
            )
            for outcome, overall in chosen.items()
        },
        calibration={o: summary.calibration.get(o) for o in experiment.outcomes},
        batchnorm=experiment.recipe.batchnorm,
        base_sha256=summary.provenance.base_sha256,
        trained_sha256=str(summary.provenance.model_sha256),
        fedrad=summary.provenance.fedrad,
    )


def _write_safetensors(summary: Summary, folder: Path, file: Path) -> tuple[ResNet, ModelRecord]:
    tensors, metadata = read_safetensors(folder / "model.safetensors")
    save_file(tensors, file, metadata | model_record(summary).to_metadata())
    network, record, _ = load_model(file)
    return network, record
