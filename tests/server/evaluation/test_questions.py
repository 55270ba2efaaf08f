"""The coordinator asks only what a site's question book allows, also when it is killed and resumed.

The book is at the site. Here the requests themselves are looked at: which, how often, and with
which values, after they are decoded as a site decodes them.
"""

import json
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, TwoHospitals, with_, with_sites, write_site

from fedrad.client.app import app as client_app
from fedrad.deploy.local.simulation import prepare
from fedrad.exchange import messages
from fedrad.exchange.encoding import Flat
from fedrad.exchange.experiment import Experiment, parse_experiment
from fedrad.exchange.messages import MessageType, from_record
from fedrad.exchange.update import flatten, unpack, values_sha256
from fedrad.flower.grid import InProcessGrid
from fedrad.models.network import stage_tensors
from fedrad.models.weight_files import file_sha256
from fedrad.server.experiment import run_experiment

TYPES = {t.name: t for t in vars(messages).values() if isinstance(t, MessageType)}
Question = tuple[str, ...]
"""What a question is about: its kind, and round, part and model where it has them."""


class Killed(BaseException):
    """Ends a run without any cleanup, like SIGKILL."""


class Notes:
    """The requests that each node got, over several runs."""

    def __init__(self) -> None:
        self.asked: dict[tuple[int, Question], list[str]] = defaultdict(list)
        """Node and question -> a hash of content and values, for each time it was asked."""
        self._values: dict[str, Flat] = {}
        """Hash -> values that a site holds, to which differences are sent."""

    def hold_base(self, experiment: Experiment) -> None:
        """A site holds the weights that the experiment starts from."""
        network = experiment.task.load_start(experiment).network
        names = stage_tensors(network, experiment.schedule.last_stage, experiment.recipe)
        values = flatten({n: v.numpy() for n, v in network.state_dict().items()}, names)
        self._values[values_sha256(values)] = values

    def take(self, node: int, kind: str, record) -> None:
        request, packed = from_record(record, TYPES[kind].request)
        content = request.model_dump(mode="json")
        manifest = getattr(request, "manifest", None)
        if manifest is not None:
            reference = self._values.get(manifest.reference or "")
            values = unpack(manifest, packed, reference)
            content["manifest"] = digest = values_sha256(values)
            self._values[digest] = values
        names = ("round", "part", "model")
        about = tuple(str(content[name]) for name in names if name in content)
        text = json.dumps(content, sort_keys=True)
        self.asked[node, (kind, *about)].append(sha256(text.encode()).hexdigest())

    def questions(self, node: int = 1) -> dict[Question, list[str]]:
        return {question: hashes for (n, question), hashes in self.asked.items() if n == node}


class Noting(InProcessGrid):
    """Notes all requests, and ends the run before the n-th answer to one type of message."""

    notes, message_type, answer = Notes(), "", 0

    def push_messages(self, new):
        new = list(new)
        for message in new:
            self.notes.take(
                message.metadata.dst_node_id, message.metadata.message_type, message.content
            )
        return super().push_messages(new)

    def pull_messages(self, message_ids):
        message_ids = list(message_ids)
        if self._waiting[message_ids[0]].metadata.message_type == self.message_type:
            self.answer -= 1
            if self.answer == 0:
                raise Killed
        return super().pull_messages(message_ids)


def run(root: Path, text: str, sites: dict[str, Path], state: Path, *kills: tuple[str, int]):
    """The requests of a run that is killed before each of these answers, and resumed."""
    file, notes = root / "experiment.toml", Notes()
    file.write_text(text)
    nodes = prepare(file, sites, root / "out", state=state).nodes
    notes.hold_base(parse_experiment(text))
    for number, (kind, answer) in enumerate([*kills, ("", 0)]):
        grid = Noting(client_app, nodes, {"experiment": text})
        grid.notes, grid.message_type, grid.answer = notes, kind, answer
        arguments = (grid, text, root / "out")
        if kind:
            with pytest.raises(Killed):
                run_experiment(*arguments, wait_seconds=0, resume=number > 0)
        else:
            summary = run_experiment(*arguments, wait_seconds=0, resume=number > 0)
    return notes, summary


def assert_each_question_has_one_content(notes: Notes) -> None:
    ready = "query.ready"
    for (node, question), hashes in notes.asked.items():
        assert question[0] == ready or len(set(hashes)) == 1, (node, question, len(hashes))


@pytest.fixture
def three(tmp_path):
    return {name: write_site(tmp_path / name, 30, seed=i) for i, name in enumerate("klm")}


@pytest.mark.parametrize(
    ("settings", "kills"),
    [
        ("", [("train.round", 5), ("evaluate.score", 8)]),
        ('encoding = "int8"\nstrategy = "fedavgm"', [("train.round", 5), ("evaluate.release", 2)]),
    ],
)
def test_without_an_ensemble_no_mixture_is_asked_for_and_all_else_once(
    tmp_path, three, settings, kills
):
    text = EXPERIMENT.replace("rounds = 2", f"rounds = 3\n{settings}")
    notes, summary = run(tmp_path, text, three, tmp_path / "state", *kills)
    assert summary.status == "completed"
    assert_each_question_has_one_content(notes)
    for node in (1, 2, 3):
        asked = notes.questions(node)
        kinds = {question[0] for question in asked}
        assert "evaluate.validation" not in kinds
        assert [q for q in asked if q[0] == "train.round"] == [
            ("train.round", str(number)) for number in range(3)
        ]
        assert len([q for q in asked if q[0] == "train.baseline"]) == 1
        assert {q[1:] for q in asked if q[0] == "evaluate.score"} <= {
            (part, model)
            for part in ("validation", "test")
            for model in ("base", "local", "global", "best")
        }
        assert {q[1] for q in asked if q[0] == "evaluate.release"} == {"validation", "test"}


def test_the_ensemble_is_asked_for_once_and_only_named_sites_models_travel(tmp_path, three):
    (tmp_path / "earlier").mkdir()
    hospitals = TwoHospitals(tmp_path / "earlier")
    base = hospitals.run(1) / "model.safetensors"
    copy = tmp_path / "base.safetensors"
    copy.write_bytes(base.read_bytes())
    for folder in three.values():
        with (folder / "site.toml").open("a") as file:
            file.write("share_local_model = true\ntest_other_models = true\n")
    text = with_sites(with_(EXPERIMENT, travel="true", ensemble="[0.7, 0.3]"), "k", "l").replace(
        '"random"', f'"base.safetensors"\nsha256 = "{file_sha256(copy)}"'
    )
    kills = [("evaluate.validation", 2), ("evaluate.release", 5)]  # of test patients, the second
    notes, summary = run(tmp_path, text, three, tmp_path / "new", *kills)
    assert_each_question_has_one_content(notes)
    assert [c.alpha for c in summary.ensemble.candidates] == [0.3, 0.7, 1.0]
    for node, name in enumerate("klm", start=1):
        asked = notes.questions(node)
        visitors = {q[2] for q in asked if q[0] == "evaluate.score" and q[2].startswith("local:")}
        assert visitors == {"local:k", "local:l"} - {f"local:{name}"}
        assert [q for q in asked if q[0] == "evaluate.validation"] == [("evaluate.validation",)]


def test_the_global_model_of_validation_and_of_test_patients_is_the_same(tmp_path, three):
    notes = Notes()
    seen: dict[str, set[str]] = defaultdict(set)
    take = notes.take

    def noting(node, kind, record):
        take(node, kind, record)
        request, _ = from_record(record, TYPES[kind].request)
        if kind == "evaluate.score" and request.manifest is not None:
            seen[request.model].add(request.manifest.sha256)

    notes.take = noting
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT)
    nodes = prepare(file, three, tmp_path / "out").nodes
    grid = Noting(client_app, nodes, {"experiment": EXPERIMENT})
    grid.notes = notes
    run_experiment(grid, EXPERIMENT, tmp_path / "out", wait_seconds=0)
    assert seen.keys() == {"global", "best"}
    assert [len(hashes) for hashes in seen.values()] == [1, 1]
