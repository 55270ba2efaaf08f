"""Evaluation of trained models at a site: it scores them, stores the scores, releases figures."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedrad.client.cohort import group_of, patient_numbers
from fedrad.client.figures.cross_validation import CrossValidation
from fedrad.client.figures.one_split import OneSplit
from fedrad.client.figures.scored_units import ScoredUnits
from fedrad.client.problems import SiteProblem
from fedrad.exchange.encoding import Packed
from fedrad.exchange.figures import Missing, ModelName, Release, SplitPart
from fedrad.exchange.messages import ReleaseRequest, ScoreReply, ScoreRequest
from fedrad.exchange.model_names import LOCAL, home_of, local_of
from fedrad.exchange.update import Manifest
from fedrad.models.network import ResNet, weights_digest
from fedrad.models.training import score
from fedrad.models.weights import read_model
from fedrad.stats.exact import Patients, with_known_outcome

from .participant import Participant
from .score_store import ScoreStore


class Scoring:
    """The evaluation of one site in one experiment. Scores stay at the site; a release leaves."""

    def __init__(self, participant: Participant) -> None:
        if not participant.task.tests_patients:
            raise SiteProblem("request", f"a {participant.task.product} is not scored on patients")
        self.participant = participant
        self.data = participant.data
        self.own: ModelName = local_of(self.data.site.name)
        experiment, evaluation = self.data.experiment, self.data.experiment.evaluation
        family = self.data.folder.with_name(f"{experiment.name}-{experiment.family}")
        self._folder = family / "scores"
        self.score_store = (
            self._of_fold(evaluation.fold_number) if evaluation.folds else ScoreStore(self._folder)
        )

    def score(self, request: ScoreRequest, packed: Packed | None) -> ScoreReply:
        """Score a model on a part of the units and store the scores."""
        data, model = self.data, self._named(request.model)
        torch.set_num_threads(data.threads)
        network = self._network(model, request.manifest, packed)
        if network is None:
            return ScoreReply(missing=self._why_missing(model))
        logits = score(network, data.parts[request.part].images, device=data.device)
        if model not in ("base", self.own):  # those are not sent by a coordinator
            labels, patients = data.parts[request.part].labels, data.parts[request.part].patients
            for k, outcome in enumerate(data.experiment.outcomes):
                known, units = with_known_outcome(labels[:, k], patients)
                data.check_scores(logits[known, k], units, request.part, outcome)
        weights = weights_digest(network)
        self.score_store.save(request.part, model, data.keys(request.part), logits, weights)
        return ScoreReply()

    def release(self, request: ReleaseRequest) -> Release:
        """Release figures of the models that were scored on a part, by the disclosure rule of the
        site. That this is done once is for the question book."""
        data, part = self.data, request.part
        models = list(dict.fromkeys(self._named(model) for model in request.models))
        evaluation = data.experiment.evaluation
        trainings = evaluation.folds * evaluation.repeats
        folds = [self._fold("test", models, fold) for fold in range(trainings)]
        units = self._units(part, models)
        missing = {model: self._why_missing(model) for model in models}
        asked = (data.experiment.outcomes, data.disclosure, self.own, evaluation.subgroups)
        if folds:
            first = [self._fold("validation", models, fold) for fold in range(evaluation.folds)]
            released = CrossValidation(*asked).release(folds, first, models, missing)
        else:
            released = OneSplit(*asked, part, request.operating).release(
                [units], [self._units("validation", models)], models, missing
            )
        self.data.count_release(released)
        return released

    def _named(self, model: ModelName) -> ModelName:
        """In a request, `local` is this site's local-only model."""
        return self.own if model == LOCAL else model

    def _network(
        self, model: ModelName, manifest: Manifest | None, packed: Packed | None
    ) -> ResNet | None:
        """The network to score; None where this site does not have it or may not score it."""
        data = self.data
        if model == "base":
            settings = data.experiment.model
            return data.base.as_model(data.experiment.outcomes, settings.base_outputs)
        if model == self.own:
            file = self.participant.local_file
            return read_model(file, data.base.network) if file.is_file() else None
        if home_of(model) and not data.site.settings.policy.test_other_models:
            return None
        if manifest is None:
            raise SiteProblem("request", f"the request came without the tensors of {model}")
        return self.participant.receive_global_model(manifest, packed)

    def _why_missing(self, model: ModelName) -> Missing:
        """Why this site has no scores of a model."""
        if model == self.own:
            return self.data.does_not_train_because or "not run"
        closed = not self.data.site.settings.policy.test_other_models
        return "declined" if home_of(model) and closed else "not run"

    def _of_fold(self, fold: int) -> ScoreStore:
        return ScoreStore(self._folder / f"fold-{fold:03}")

    def _fold(self, part: SplitPart, models: Sequence[ModelName], fold: int) -> ScoredUnits:
        """Units of a part of one fold, with the stored scores of some models. A patient has the
        same number in all folds."""
        rows = self.data.rows_of(fold)[part]
        patients = patient_numbers(unit.key for unit in self.data.cohort.units)
        return self._scored(rows, patients[rows], part, models, self._of_fold(fold))

    def _units(self, part: SplitPart, models: Sequence[ModelName]) -> ScoredUnits:
        """Units of a part, with the stored scores of some models."""
        data = self.data
        return self._scored(
            data.rows[part], data.parts[part].patients, part, models, self.score_store
        )

    def _scored(
        self,
        rows: NDArray[np.int64],
        patients: Patients | None,
        part: SplitPart,
        models: Sequence[ModelName],
        store: ScoreStore,
    ) -> ScoredUnits:
        """Labels, groups and scores of some rows of the cohort."""
        units = [self.data.cohort.units[row] for row in rows]
        labels = np.array([unit.labels for unit in units], dtype=np.float32)
        labels = labels.reshape(len(units), len(self.data.experiment.outcomes))
        keys = [unit.key for unit in units]
        logits = {m: z for m in models if (z := store.read(part, m, keys)) is not None}
        groups = {
            column: group_of([unit.values.get(column, "") for unit in units], named)
            for column, named in self.data.experiment.evaluation.subgroups.items()
        }
        digests = {model: store.digest(part, model) for model in logits}
        return ScoredUnits(labels, patients, logits, groups, digests)
