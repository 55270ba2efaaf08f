"""A hospital's own images as reference, to tell whether a new image is unlike them.

It is computed at the site, from the site's cohort, for each command, and does not leave the site.
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
class CohortReference:
    """Typicality of images in a cohort, with the numbers of patients that it is computed from."""

    typicality: Typicality
    reference_patients: int
    """Patients whose images new ones are compared with."""
    held_out_patients: int
    """Patients whose distances to the reference give the scale."""
    trained_patients: int
    """Reference patients that trained the model."""


def cohort_reference(
    site: Site, network: ResNet, settings: InputSettings, lineage: Lineage, device: torch.device
) -> CohortReference:
    """The reference from a site's cohort, with one image per patient.

    Patients who trained the model, according to the site's record, are reference patients. Others
    are added at random until half of all patients are. The rest, who did not train the model, are
    held out.

    Parameters
    ----------
    site
        The site with its cohort.
    network
        The model that gives the features.
    settings
        Size, fit and region of its pictures.
    lineage
        The experiments that trained the model.
    device
        Where to compute the features.

    Raises
    ------
    SiteProblem
        If there is no cohort, too few usable images, or no record of the patients who trained.
    """
    pseudonyms = Pseudonyms.of_site(site)
    store = ImageStore(
        site.state / "images", limit_gib=site.settings.images_gib, workers=site.settings.decoders
    )
    table = find_by_uid(read_table(site, [], pseudonyms), site, store.instance_uids)
    rows = [row for row in index_rows(site, table.rows, "earliest")[0] if row.file]
    images, readings = store.load([row.file for row in rows if row.file], settings)
    usable = [k for k, reading in enumerate(readings) if reading.unusable is None]
    trained = _trained_patients(site, lineage, pseudonyms)
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
    image_features = features(network, images.select(np.array(order, np.int64)), device=device)
    typicality = Typicality(image_features[:cut], image_features[cut:])
    return CohortReference(typicality, cut, len(order) - cut, known)


def _trained_patients(site: Site, lineage: Lineage, pseudonyms: Pseudonyms) -> frozenset[str]:
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
