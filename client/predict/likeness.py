"""What a hospital's own images look like to a model: the yardstick for a new image.

It is computed here, from the cohort here, when it is asked for; nothing of it leaves the site.
"""

from dataclasses import dataclass

import numpy as np
import torch

from fedrad.client.cohort import Pseudonyms, find_by_uid, index_rows, read_table
from fedrad.client.images import ImageStore
from fedrad.client.participant.trained_patients import TrainedPatients
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.lineage import Lineage
from fedrad.models.network import ResNet
from fedrad.models.settings import InputSettings
from fedrad.models.training import features
from fedrad.models.typicality import FEWEST, Typicality


@dataclass(frozen=True)
class Familiar:
    """A yardstick, with the patients behind it and how many of them trained the model."""

    typicality: Typicality
    reference: int
    held_out: int
    trained: int


def familiar(
    site: Site, network: ResNet, settings: InputSettings, lineage: Lineage, device: torch.device
) -> Familiar:
    """The yardstick of a site's cohort, one image per patient.

    Patients who trained the model, as far as this site's own record says, are reference; so are
    others, by lot, until that is half of all. The rest, none of whom the model knows, is held out.
    Raises SiteProblem: no cohort, too few usable images, or a lost record of who trained.
    """
    pseudonyms = Pseudonyms.kept(site.state)
    store = ImageStore(
        site.state / "images", limit_gib=site.settings.images_gib, workers=site.settings.decoders
    )
    table = find_by_uid(read_table(site, [], pseudonyms), site, store.instance_uids)
    rows = [row for row in index_rows(table.rows, "earliest") if row.file]
    images, readings = store.load([row.file for row in rows if row.file], settings)
    usable = [k for k, reading in enumerate(readings) if reading.unusable is None]
    trained = _trained(site, lineage, pseudonyms)
    order = sorted(usable, key=lambda k: (rows[k].patient not in trained, rows[k].draw))
    known = sum(rows[k].patient in trained for k in order)
    cut = max(known, len(order) // 2)
    if min(cut, len(order) - cut) < FEWEST:
        raise SiteProblem(
            "cohort",
            f"{site.cohort}: {len(order)} patients with a usable image, of whom {known} "
            f"trained the model; a comparison needs {2 * FEWEST}, and {FEWEST} who did not train "
            "it",
        )
    found = features(network, images.select(np.array(order, np.int64)), device=device)
    return Familiar(Typicality(found[:cut], found[cut:]), cut, len(order) - cut, known)


def _trained(site: Site, lineage: Lineage, pseudonyms: Pseudonyms) -> frozenset[str]:
    units = TrainedPatients(site.state / "trained", pseudonyms=pseudonyms.fingerprint)
    trained: frozenset[str] = frozenset()
    for ancestor in lineage:
        keys = units.keys(ancestor.experiment)
        if keys is None and site.name in ancestor.sites:
            raise SiteProblem(
                "cohort",
                f"this site trained the model, but {units.folder} has no record of the patients: "
                "give the state folder of that time (--state), or leave out --cohort",
            )
        trained |= keys or frozenset()
    return trained
