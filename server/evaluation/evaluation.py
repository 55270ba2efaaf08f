"""The final evaluation: choices by validation patients, then one scoring of the test patients.

`choose` uses no test patient, and `measure` does not change what was chosen. Choices and released
figures are stored in the progress, so a resumed experiment does not repeat them.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from fedrad.exchange.encoding import Packed
from fedrad.exchange.figures import Missing, ModelName, Release, SplitPart
from fedrad.exchange.model_names import LOCAL, home_of, local_of
from fedrad.exchange.update import Manifest
from fedrad.server.results.choices import Choices, choose
from fedrad.server.results.overall import ReleasedFigures
from fedrad.server.results.summary import BestModel
from fedrad.server.rounds.best_model import BestModelFile, mean_within_site_auroc, validation_units
from fedrad.server.rounds.checkpoint import Progress

from .ensemble import choose_ensemble, mix
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
        log.info("Thresholds and calibration from the validation patients")
        models = self._models(candidate=self._best_is_candidate())
        waiting = requests.federation.sites.keys() - progress.validation.keys()
        for model in models:
            requests.score("validation", model, self._tensors(model), waiting)
        if self.experiment.evaluation.folds:
            # each site chooses for itself and releases figures once, over all folds
            progress.choices = Choices()
            self._save()
            return
        shared = self._asked("validation", [model for model in models if model != LOCAL])
        requests.release("validation", shared, {}, progress.validation, {}, self._save)
        progress.best = best_round(progress, self.best.read(), requests, shared)
        kept = [model for model in shared if model in self._models()]
        progress.choices = choose(progress.validation, kept, self.experiment.outcomes)
        self._save()

    def measure(self) -> None:
        """Let the sites score all models on their test patients, then release their figures."""
        log.info("Test patients")
        assert self.progress.choices is not None
        sites = self.requests.federation.sites
        waiting = sites.keys() - self.progress.tested.keys()
        hosts = {site for site in waiting if sites[site].tests_other_models}
        visitors = self._travelling_models() if self.experiment.evaluation.travel else []
        asked = self._asked("test", [*self._models(), *map(local_of, visitors)])
        for model in asked:
            home = home_of(model)
            if home is None:
                self.requests.score("test", model, self._tensors(model), waiting)
            elif (tensors := self.shared_models.load(home)) is not None:
                self.requests.score("test", model, tensors, hosts - {home})
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

    def _asked(self, part: SplitPart, models: list[ModelName]) -> list[ModelName]:
        """The models of the one request for the figures of a part, the same after a crash."""
        if part not in self.progress.asked:
            self.progress.asked[part] = models
            self._save()
        return self.progress.asked[part]

    def _travelling_models(self) -> list[str]:
        """Sites whose local-only model is scored at other sites. Only sites that the experiment
        names are among them, because each site approved a fixed number of models."""
        travelling = []
        for site in sorted(self.requests.federation.sites):
            if not self.shared_models.has(site):
                self.progress.untrained.setdefault(site, "declined")
            elif site not in self.experiment.federation.sites:
                self.progress.untrained.setdefault(site, "not run")
            else:
                travelling.append(site)
        return travelling

    def _models(self, *, candidate: bool = False) -> list[ModelName]:
        """The models that every site scores; the best round's too where it is a candidate or was
        chosen."""
        local = [LOCAL] if self.experiment.evaluation.local_baseline else []
        chosen = self.progress.best
        with_best = candidate or (chosen is not None and not chosen.final)
        return ["base", *local, "global", *(["best"] if with_best else [])]

    def _tensors(self, model: ModelName) -> tuple[Manifest, Packed] | None:
        """Tensors to send with a model; None where the sites have the model."""
        if model in ("base", LOCAL):
            return None
        stage, rounds = self.experiment.schedule.last_stage, self.experiment.schedule.rounds
        state = self.best.weights() if model == "best" else None
        return self.requests.model.packed(stage, rounds, state)

    def _best_is_candidate(self) -> bool:
        """Whether the best of the models that entered rounds is compared with the final one. In a
        cross-validation no figures on validation patients are released; with local normalisation
        the sites no longer have that of an earlier round."""
        local = self.experiment.recipe.batchnorm == "local"
        return not (self.experiment.evaluation.folds or local or self.best.read() is None)


def best_round(
    progress: Progress,
    earlier: BestModel | None,
    requests: SiteRequests,
    released: Collection[ModelName],
) -> BestModel | None:
    """The best of the models that entered rounds and the final one; on a tie the final one.

    Both were scored on the same validation patients, and are compared by the AUROCs that the sites
    released of both. Where no site released them, the earlier one stays a candidate with the figure
    of its round.

    Parameters
    ----------
    progress
        State of the experiment, with the releases on validation patients.
    earlier
        Best of the models that entered rounds; None without one.
    requests
        Requests to the sites.
    released
        Models that were asked for.
    """
    experiment = requests.federation.experiment
    if experiment.recipe.batchnorm == "local":
        return None  # the sites no longer have their normalisation of an earlier round
    models = ["global", "best"] if "best" in released else ["global"]
    units = validation_units(requests.federation)
    final, best = (
        mean_within_site_auroc(validation_aurocs(progress.validation, model, models), units)
        for model in ("global", "best")
    )
    if earlier is not None and (final is None or (best is not None and final < best)):
        return earlier.model_copy(update={"auroc": earlier.auroc if best is None else best})
    if final is None:
        return None
    return BestModel(round=experiment.schedule.rounds, auroc=final, final=True)


def validation_aurocs(
    releases: Mapping[str, Release], model: ModelName, together: Collection[ModelName]
) -> dict[str, dict[str, float | None]]:
    """Site -> outcome -> AUROC of a model, where the site released those of all of `together`."""
    result: dict[str, dict[str, float | None]] = {}
    for site, release in releases.items():
        given = {(s.model, s.outcome): s.auroc for s in release.scores if s.auroc is not None}
        result[site] = {
            outcome: auroc
            for (name, outcome), auroc in given.items()
            if name == model and all((other, outcome) in given for other in together)
        }
    return result


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
