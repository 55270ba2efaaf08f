"""`fedrad weights pin`: writes the hash of a file of weights into an experiment file."""

from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.models.settings import ModelSettings
from fedrad.models.weight_files import PUBLISHED, WeightsError, fetch, file_sha256
from fedrad.models.weight_folders import add_weight_folder
from fedrad.system.files import read_regular_text, write_whole

from .preparation import weights_fault


def pin_weights(weights: str, experiment_file: Path) -> str:
    """Set `model.weights` and `model.sha256` of an experiment file; its comments stay.

    Published weights are downloaded into the cache first. The hash is computed from the file, which
    must fit the experiment's network.

    Parameters
    ----------
    weights
        Name of published weights, or a file.
    experiment_file
        The file to change.

    Returns
    -------
    str
        A sentence to show.

    Raises
    ------
    WeightsError, ExperimentError
        If the weights cannot be used; the experiment file stays unchanged.
    """
    try:
        document = tomlkit.parse(read_regular_text(experiment_file))
    except OSError as error:
        raise ExperimentError(f"{experiment_file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{experiment_file}: it is not UTF-8 text") from error
    except (TOMLKitError, RecursionError) as error:
        raise ExperimentError(f"{experiment_file}: not valid TOML: {error}") from error
    table = document.setdefault("model", tomlkit.table())
    if weights in PUBLISHED:
        file = fetch(ModelSettings(weights=weights, backbone=table.get("backbone", "resnet50")))
        name = weights
    else:
        file, name = Path(weights), Path(weights).name
        if not file.is_file():
            raise WeightsError(
                f"{weights}: no such file; allowed are {', '.join(PUBLISHED)} or a file"
            )
    table["weights"], table["sha256"] = name, file_sha256(file)
    text = tomlkit.dumps(document)
    experiment = parse_experiment(text, str(experiment_file))
    add_weight_folder(file.parent)
    if (fault := weights_fault(experiment)) is not None:
        raise WeightsError(fault)
    file = experiment_file.resolve()  # a link to the file stays a link
    write_whole(file, text, private=not file.stat().st_mode & 0o044)  # as readable as before
    return f"{experiment_file}: weights = {name!r}, sha256 = {table['sha256']}"
