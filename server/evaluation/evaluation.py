"""The end of an experiment: validation patients choose, then test patients are scored, once.

`choose` asks nothing of test patients; `measure` takes what was chosen as it is. Nothing leads
back. What was chosen, and what sites have released, stands after a resume.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from fedrad.exchange.encoding import Packed
from fedrad.exchange.figures import Missing, ModelName
from fedrad.exchange.update import Manifest
from fedrad.server.results.choices import Choices, choose
from fedrad.server.results.overall import LOCAL, Tested
from fedrad.server.results.summary import Best
from fedrad.server.rounds.best_model import BestRound, validation_units, within_site
from fedrad.server.rounds.checkpoint import Progress

from .ensemble import aurocs, choose_ensemble, mix
from .shared_models import Travellers
from .site_requests import Questions

log = logging.getLogger("fedrad.server")


class Evaluation:
    """The evaluation of a trained model, after all rounds. `save` is called whenever `progress`
    has moved."""

    def __init__(
        self,
        questions: Questions,
        best: BestRound,
        progress: Progress,
        folder: Path,
        save: Callable[[], None],
    ) -> None:
        self.questions = questions
        self.best = best
        self.progress = progress
        self.experiment = questions.federation.experiment
        self.travellers = Travellers(folder / "travellers")
        self._save = save

    def train_alone(self) -> None:
        """Have each site train its local-only model."""
        log.info("Local-only models, for comparison")

        def done(site: str, missing: Missing | None) -> None:
            self.progress.baselines.append(site)
            if missing:
                self.progress.untrained[site] = missing
            self._save()

        self.questions.baselines(self.progress.baselines, done, self.travellers)

    def choose(self) -> None:
        """Mixture with the base, best round, thresholds and calibrations, by validation patients.
        The mixture becomes the global model."""
        progress, questions = self.progress, self.questions
        if progress.ensemble is None:
            progress.ensemble = choose_ensemble(questions)
            self._save()
        if progress.ensemble is not None:
            mix(questions.model, progress.ensemble.alpha)
        if progress.choices is not None:
            return
        folds = self.experiment.evaluation.folds
        if progress.best is None and not folds:
            progress.best = self._best_round()
            self._save()
        log.info("Thresholds and calibration from the validation patients")
        for model in self._models():
            questions.score("validation", model, self._tensors(model))
        if folds:  # sites release once, over all folds; each chooses for itself
            progress.choices = Choices()
            self._save()
            return
        shared = [model for model in self._models() if model != LOCAL]
        questions.release("validation", shared, {}, progress.validation, {}, self._save)
        progress.choices = choose(progress.validation, shared, self.experiment.outcomes)
        self._save()

    def measure(self) -> None:
        """Score all models on the test patients, then have every site release its figures."""
        log.info("Test patients")
        assert self.progress.choices is not None
        sites, asked = self.questions.federation.sites, self._models()
        waiting = sites.keys() - self.progress.tested.keys()
        for model in asked:
            self.questions.score("test", model, self._tensors(model), waiting)
        if self.experiment.evaluation.travel:
            hosts = {site for site in waiting if sites[site].tests_other_models}
            for site in sorted(sites):
                if (tensors := self.travellers.of(site)) is not None:
                    self.questions.score("test", f"{LOCAL}:{site}", tensors, hosts - {site})
                    asked.append(f"{LOCAL}:{site}")
                else:
                    self.progress.untrained.setdefault(site, "declined")
        if not self.experiment.is_last_fold:
            return
        self.questions.release(
            "test",
            asked,
            self.progress.choices.operating,
            self.progress.tested,
            self.progress.missing,
            self._save,
        )

    def _models(self) -> list[ModelName]:
        """Models that every site scores."""
        local = [LOCAL] if self.experiment.evaluation.local_baseline else []
        best = self.progress.best
        return ["base", *local, "global", *(["best"] if best and not best.final else [])]

    def _tensors(self, model: ModelName) -> tuple[Manifest, Packed] | None:
        """What must be sent of a model; None where sites have it."""
        if model in ("base", LOCAL):
            return None
        stage, rounds = self.experiment.schedule.last_stage, self.experiment.schedule.rounds
        state = self.best.weights() if model == "best" else None
        return self.questions.model.packed(stage, rounds, state)

    def _best_round(self) -> Best | None:
        """The best of the models that entered rounds and the final one; of equals the later."""
        if self.experiment.recipe.batchnorm == "local":
            return None  # the sites' own normalisation of an earlier round is gone
        if (ensemble := self.progress.ensemble) is not None:
            final = next(c.auroc for c in ensemble.candidates if c.alpha == ensemble.alpha)
        else:
            figures = self.questions.validation([1.0])
            final = within_site(aurocs(figures, 0), validation_units(self.questions.federation))
        earlier = self.best.read()
        if earlier is not None and (final is None or final < earlier.auroc):
            return earlier
        if final is None:
            return None
        return Best(round=self.experiment.schedule.rounds, auroc=final, final=True)


def tested(progress: Progress) -> Tested:
    """What came of the test patients. A site that was not reached has no figure, "not run"."""
    choices = progress.choices or Choices()
    silent: dict[str, Missing] = {
        site: "not run" for site in progress.sites if site not in progress.tested
    }
    return Tested(
        progress.tested,
        silent | progress.missing,
        progress.untrained,
        choices.operating,
        choices.by_default,
    )


def epsilon(progress: Progress) -> dict[str, float]:
    """Site -> what its noisy histograms cost a patient: one is in one part only, so the dearest
    part counts."""
    spent: dict[str, float] = {}
    for releases in (progress.validation, progress.tested):
        for site, release in releases.items():
            if release.epsilon is not None:
                spent[site] = max(spent.get(site, 0.0), release.epsilon)
    return spent
