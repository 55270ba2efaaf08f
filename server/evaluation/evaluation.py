"""The final evaluation: choices by validation patients, then one scoring of the test patients.

`choose` uses no test patient, and `measure` does not change what was chosen. Choices and released
figures are stored in the progress, so a resumed experiment does not repeat them.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from fedrad.exchange.encoding import Packed
from fedrad.exchange.figures import Missing, ModelName
from fedrad.exchange.model_names import LOCAL, local_of
from fedrad.exchange.update import Manifest
from fedrad.server.results.choices import Choices, choose
from fedrad.server.results.overall import ReleasedFigures
from fedrad.server.results.summary import BestModel
from fedrad.server.rounds.best_model import BestModelFile, mean_within_site_auroc, validation_units
from fedrad.server.rounds.checkpoint import Progress

from .ensemble import choose_ensemble, mix, mixture_aurocs
from .shared_models import SharedModels
from .site_requests import SiteRequests

log = logging.getLogger("fedrad.server")


class FinalEvaluation:
    """The evaluation of a trained model, after all rounds.

    Parameters
    ----------
    requests
        Requests to the sites about the trained model.
    best
        Best model of the training rounds.
    progress
        State of the experiment, which is updated.
    folder
        Folder of the checkpoint.
    save
        Writes the progress. It is called after each change of `progress`.
    """

    def __init__(
        self,
        requests: SiteRequests,
        best: BestModelFile,
        progress: Progress,
        folder: Path,
        save: Callable[[], None],
    ) -> None:
        self.requests = requests
        self.best = best
        self.progress = progress
        self.experiment = requests.federation.experiment
        self.shared_models = SharedModels(folder / "travellers")
        self._save = save

    def train_alone(self) -> None:
        """Let each site train its local-only model."""
        log.info("Local-only models, for comparison")

        def done(site: str, missing: Missing | None) -> None:
            self.progress.baselines.append(site)
            if missing:
                self.progress.untrained[site] = missing
            self._save()

        self.requests.baselines(self.progress.baselines, done, self.shared_models)

    def choose(self) -> None:
        """Choose mixture with the base, best round, thresholds and calibrations, by validation
        patients. The mixture replaces the global model."""
        progress, requests = self.progress, self.requests
        if progress.ensemble is None:
            progress.ensemble = choose_ensemble(requests)
            self._save()
        if progress.ensemble is not None:
            mix(requests.model, progress.ensemble.alpha)
        if progress.choices is not None:
            return
        folds = self.experiment.evaluation.folds
        if progress.best is None and not folds:
            progress.best = self._best_round()
            self._save()
        log.info("Thresholds and calibration from the validation patients")
        for model in self._models():
            requests.score("validation", model, self._tensors(model))
        if folds:  # each site chooses for itself and releases figures once, over all folds
            progress.choices = Choices()
            self._save()
            return
        shared = [model for model in self._models() if model != LOCAL]
        requests.release("validation", shared, {}, progress.validation, {}, self._save)
        progress.choices = choose(progress.validation, shared, self.experiment.outcomes)
        self._save()

    def measure(self) -> None:
        """Let the sites score all models on their test patients, then release their figures."""
        log.info("Test patients")
        assert self.progress.choices is not None
        sites, asked = self.requests.federation.sites, self._models()
        waiting = sites.keys() - self.progress.tested.keys()
        for model in asked:
            self.requests.score("test", model, self._tensors(model), waiting)
        if self.experiment.evaluation.travel:
            hosts = {site for site in waiting if sites[site].tests_other_models}
            for site in sorted(sites):
                if (tensors := self.shared_models.load(site)) is not None:
                    self.requests.score("test", local_of(site), tensors, hosts - {site})
                    asked.append(local_of(site))
                else:
                    self.progress.untrained.setdefault(site, "declined")
        if not self.experiment.is_last_fold:
            return
        self.requests.release(
            "test",
            asked,
            self.progress.choices.operating,
            self.progress.tested,
            self.progress.missing,
            self._save,
        )

    def _models(self) -> list[ModelName]:
        """The models that every site scores."""
        local = [LOCAL] if self.experiment.evaluation.local_baseline else []
        best = self.progress.best
        return ["base", *local, "global", *(["best"] if best and not best.final else [])]

    def _tensors(self, model: ModelName) -> tuple[Manifest, Packed] | None:
        """Tensors to send with a model; None where the sites have the model."""
        if model in ("base", LOCAL):
            return None
        stage, rounds = self.experiment.schedule.last_stage, self.experiment.schedule.rounds
        state = self.best.weights() if model == "best" else None
        return self.requests.model.packed(stage, rounds, state)

    def _best_round(self) -> BestModel | None:
        """The best of the models that entered rounds and the final one; on a tie the later one."""
        if self.experiment.recipe.batchnorm == "local":
            return None  # the sites no longer have their normalisation of an earlier round
        if (ensemble := self.progress.ensemble) is not None:
            final = next(c.auroc for c in ensemble.candidates if c.alpha == ensemble.alpha)
        else:
            figures = self.requests.validation([1.0])
            final = mean_within_site_auroc(
                mixture_aurocs(figures, 0), validation_units(self.requests.federation)
            )
        earlier = self.best.read()
        if earlier is not None and (final is None or final < earlier.auroc):
            return earlier
        if final is None:
            return None
        return BestModel(round=self.experiment.schedule.rounds, auroc=final, final=True)


def released_figures(progress: Progress) -> ReleasedFigures:
    """Released figures on test patients. A site that was not reached is absent, "not run"."""
    choices = progress.choices or Choices()
    unreached: dict[str, Missing] = {
        site: "not run" for site in progress.sites if site not in progress.tested
    }
    return ReleasedFigures(
        progress.tested,
        unreached | progress.missing,
        progress.untrained,
        choices.operating,
        choices.by_default,
    )


def epsilon(progress: Progress) -> dict[str, float]:
    """Site -> privacy loss ε of one patient in this experiment, by what the site states.

    A patient is in one part only, so it is the larger one of the parts: of test patients the noisy
    histograms, of validation patients these and the monitoring of all rounds.
    """
    monitored: dict[str, float] = {}
    for round_ in progress.rounds:
        for site, of_site in round_.sites.items():
            monitored[site] = max(monitored.get(site, 0.0), of_site.epsilon or 0.0)
    spent: dict[str, float] = {}
    for site in progress.sites:
        validation, test = (
            (releases[site].epsilon if site in releases else None) or 0.0
            for releases in (progress.validation, progress.tested)
        )
        if largest := max(monitored.get(site, 0.0) + validation, test):
            spent[site] = largest
    return spent
