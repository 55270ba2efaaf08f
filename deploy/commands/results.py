"""Commands that read the results of experiments."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import ForOthers, fail, open_to_others

from .terminal import ResultsFolder, check_summary

READER = "fedrad.client.images.transform.ReadRadiographd"
"""Transform by which an exported MONAI bundle reads radiographs, the same as at hospitals."""


def report(
    folder: ResultsFolder,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    index: Annotated[
        bool,
        typer.Option("--index", help="Write one page over all experiments below FOLDER instead."),
    ] = False,
    for_others: ForOthers = False,
) -> None:
    """Write report.html and report.md anew from the summary.json of an experiment."""
    if not index:
        check_summary(folder)
    elif not folder.is_dir():
        fail(f"{folder}: no such folder; give the folder of experiments")
    from fedrad.server.report.index import write_index
    from fedrad.server.report.report import write_report

    try:
        file = write_index(folder) if index else write_report(folder)
    except ValueError as error:
        fail(f"{folder / 'summary.json'}: not a summary of fedrad: {error}")
    if for_others:
        for written in (file, file.with_suffix(".md")):
            if written.is_file():
                open_to_others(written)
    print(file)
    if open_:
        webbrowser.open(file.resolve().as_uri())


def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders with results, of two or more experiments.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the comparison.")] = Path("comparison"),
    for_others: ForOthers = False,
) -> None:
    """Compare experiments on the same test patients; folds are compared in pairs."""
    for folder in folders:
        if not (file := folder / "summary.json").is_file():
            fail(f"{file}: no such file; give folders of finished experiments")
    from fedrad.server.report.compare import folders_by_name
    from fedrad.server.report.compare_page import write_comparison

    try:
        page = write_comparison(folders_by_name(folders), out)
    except ValueError as error:
        fail(f"not a summary of fedrad: {error}")
    if for_others:
        open_to_others(out)
    print((out / "compare.md").read_text(encoding="utf-8"))
    print(page)


def export(
    folder: ResultsFolder,
    to: Annotated[
        Path | None, typer.Option(help="New folder to write; default: FOLDER/export.")
    ] = None,
    onnx: Annotated[bool, typer.Option(help="Whether to write model.onnx as well.")] = True,
    for_others: ForOthers = False,
) -> None:
    """Write the model of a finished experiment for others to use.

    As safetensors, as ONNX and as a MONAI bundle, with a model card.
    """
    check_summary(folder)
    from fedrad.server.export.export import export as write_export

    target = to or folder / "export"
    try:
        record = write_export(folder, target, reader=READER, onnx=onnx)
        if for_others:
            open_to_others(target)
    except OSError as error:
        fail(f"{target}: cannot be written: {error.strerror}")
    print(target)
    if record.batchnorm == "local":
        print(
            "batchnorm = \"local\": the file holds the base's normalisation; each site's own, with "
            "which it was tested, stays there"
        )
    print("Research use only; not a medical device.")
