"""Writes `model.safetensors` of a completed experiment: classifier or generator, with lineage."""

import json
from pathlib import Path

from fedrad.exchange.lineage import Ancestor, Lineage, write_lineage
from fedrad.models.network import ResNet
from fedrad.models.progression.network import Denoiser, GeneratorRecord, save_generator
from fedrad.models.weights import save
from fedrad.server.results.choices import Choices

from .checkpoint import Progress
from .global_model import GlobalModel


def write_model(file: Path, model: GlobalModel, results: Progress, lineage: Lineage) -> None:
    """Write the trained network, with its description, calibration and lineage as metadata."""
    experiment, network = model.experiment, model.network
    trained = {
        s for r in results.rounds for s, of_site in r.sites.items() if of_site.status == "ok"
    }
    own = Ancestor(experiment=experiment.identity, sites=tuple(sorted(trained)))
    of_lineage = write_lineage((*lineage, own))
    if isinstance(network, Denoiser):
        record = GeneratorRecord(
            name=experiment.name,
            experiment=experiment.identity,
            input=experiment.model.input,
            outcomes=tuple(experiment.outcomes),
            generator=experiment.generator,
            classes=_classes(results, trained, experiment.outcomes),
        )
        save_generator(file, network, record, base_sha256=model.base.digest, **of_lineage)
        return
    assert isinstance(network, ResNet)
    calibration = (results.choices or Choices()).calibration.get("global", {})
    save(
        file,
        network,
        outputs=list(experiment.outcomes),
        description=f"global model of {experiment.name}",
        base_sha256=model.base.digest,
        calibration=json.dumps({k: c.model_dump() if c else None for k, c in calibration.items()}),
        ensemble_alpha=repr(results.ensemble.alpha if results.ensemble else 1.0),
        **of_lineage,
    )


def _classes(
    results: Progress, trained: set[str], outcomes: list[str]
) -> dict[str, tuple[bool, bool]]:
    """Outcome -> whether the training sites had patients without it, and with it.

    A site that withholds a count has patients of the class, because a count of 0 is not withheld.
    """
    classes = {}
    for outcome in outcomes:
        counts = [results.sites[site].units["train"][outcome] for site in trained]
        without, with_it = ([c.negatives for c in counts], [c.positives for c in counts])
        classes[outcome] = (any(n != 0 for n in without), any(n != 0 for n in with_it))
    return classes
