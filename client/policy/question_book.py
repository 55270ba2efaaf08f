"""The question book: what an experiment has asked this site, and which question may follow.

An approval is for a fixed list of questions (`questions.py`). The book of an experiment holds each
question that was asked, with the model that it was asked about. A question is answered once. If
it is asked again, because a message was lost or the coordinator resumed, it gets the same answer
again, and only for the same model.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.encoding import Packed
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.messages import Readiness, Reply
from fedrad.system.files import UnreadableFileError, locked
from fedrad.system.folders import make_folder

from .approvals import Decision
from .book_file import Book, Entry, book_file, training_of
from .ledger import LEDGER, Ledger
from .ledger_search import largest_number
from .questions import READINESS, questions_of
from .stored_answers import StoredAnswers

FIRST_COUNTS = ("units", "set_aside", "left_out", "trains", "does_not_train_because")
"""Fields of the readiness that stay as they were first answered: two counts, before and after one
patient was added, would tell the class of that patient."""


class Visit:
    """A question while it is answered.

    Attributes
    ----------
    number
        Number of the question in the book.
    earlier
        The answer that was given before; None if it is computed now.
    """

    def __init__(self, number: int, earlier: tuple[Reply, Packed | None] | None) -> None:
        self.number = number
        self.earlier = earlier
        self.answer: tuple[Reply, Packed | None] | None = None


class QuestionBook:
    """The book of one experiment at a site, `books/NAME-IDENTITY.json` in the state folder.

    Parameters
    ----------
    site
        The site.
    experiment
        The experiment. All folds of a cross-validation have one book.
    answers
        Folder of the stored answers.
    log
        The site's log.
    """

    def __init__(
        self, site: Site, experiment: Experiment, answers: Path, log: logging.Logger
    ) -> None:
        self.site = site
        self.experiment = experiment
        self.log = log
        self._file = book_file(site.state, experiment)
        self.path = self._file.path
        self._answers = StoredAnswers(answers)

    @contextmanager
    def visit(
        self,
        question: str,
        model: str | None,
        request: str,
        *,
        run: int,
        approval: Decision | None = None,
    ) -> Iterator[Visit]:
        """Enter a question in the book, and store its answer when the block ends.

        One process at a time answers questions of an experiment. If the block raises, the question
        stays in the book without an answer, and can be asked again about the same model.

        Parameters
        ----------
        question
            The question (`question_of`).
        model
            SHA-256 of the values of the model that was sent with it, None if none was.
        request
            Text of the request, without the model.
        run
            Number of the run that asks.
        approval
            The decision that approves the experiment, which may limit its runs; None if the site
            asks for none.

        Yields
        ------
        Visit
            With an `earlier` answer, or to be given an `answer`.

        Raises
        ------
        SiteProblem
            "asked": the question is out of order, or was asked about another model. "approval":
            more runs than were approved. "implausible": an earlier model was implausible.
            "internal": book or answer cannot be read. "storage": they cannot be written.
        """
        with self._stored():
            make_folder(self.path.parent)
            make_folder(self._answers.folder)
        with locked(self.path):
            with self._stored():
                book = self._read()
            digest = sha256(request.encode()).hexdigest()
            entry = self._entered(book, question, model, digest, run, approval)
            with self._stored():
                self._file.write(book)
                visit = Visit(entry.number, self._earlier(question, entry))
            try:
                yield visit
            except SiteProblem as problem:
                if problem.reason == "implausible":
                    book.closed = f"{question}: {problem}"
                    self._file.write(book)
                raise
            if visit.earlier is None and visit.answer is not None:
                with self._stored():
                    entry.answer = self._answers.store(question, *visit.answer)
                    self._file.write(book)

    def _entered(
        self,
        book: Book,
        question: str,
        model: str | None,
        request: str,
        run: int,
        approval: Decision | None,
    ) -> Entry:
        """The entry of a question, which is added to the book if it is new and in order."""
        if book.closed:
            raise SiteProblem(
                "implausible",
                f"{self.path}: closed since an implausible model came ({book.closed}). The "
                "experiment has ended here; another one needs another name and an approval",
            )
        if run not in book.runs:
            self._check_runs(book, approval)
            book.runs[run] = _now()
        training = book.trainings.setdefault(training_of(self.experiment), {})
        entry = training.get(question)
        if entry is not None:
            same = question == READINESS or (entry.model == model and entry.request == request)
            if not same:
                raise self._refused(question, f"it was asked on {entry.asked} about another model")
            if entry.answer is None:
                self._check_order(question, model, training)
            return entry
        self._check_order(question, model, training)
        number = 1 + sum(map(len, book.trainings.values()))
        entry = Entry(number=number, asked=_now(), model=model, request=request)
        training[question] = entry
        return entry

    def _check_runs(self, book: Book, approval: Decision | None) -> None:
        """Refuse one run more than was approved. A later decision allows new runs."""
        if approval is None or approval.runs is None:
            return
        if book.runs_since(approval.time) >= approval.runs:
            raise SiteProblem(
                "approval",
                f"{self.experiment.name!r} was approved for {_runs(approval.runs)} on "
                f"{approval.time}, and this is another one: `fedrad-site approve FOLDER "
                f"{self.experiment.name} --runs N` approves more",
            )

    def _check_order(self, question: str, model: str | None, training: dict[str, Entry]) -> None:
        """Questions come in the order of the experiment. A site may have missed some. Scores may be
        asked for in any order until the part's figures are released. A model has one set of weights
        for validation and test."""
        order = {q: place for place, q in enumerate(questions_of(self.experiment, self.site.name))}
        kind, _, rest = question.partition(" ")
        if kind == "score":
            part, _, name = rest.partition(" ")
            if f"release {part}" in training:
                raise self._refused(question, f"the figures of the {part} patients were released")
            for other in ("validation", "test"):
                earlier = training.get(f"score {other} {name}")
                if earlier is not None and earlier.model != model:
                    raise self._refused(question, f"{name} was another model on {other} patients")
            return
        later = [q for q in training if order.get(q, 0) > order[question]]
        if later and question != READINESS:
            raise self._refused(question, f"{later[-1]!r} came before it")

    def _refused(self, question: str, why: str) -> SiteProblem:
        return SiteProblem(
            "asked",
            f"{question!r} of {self.experiment.name!r} is not answered: {why}. The question book "
            f"is {self.path}",
        )

    # Stored answers

    def _earlier(self, question: str, entry: Entry) -> tuple[Reply, Packed | None] | None:
        """The stored answer of a question; None if it has none yet."""
        if entry.answer is None or question == READINESS:
            return None
        if (earlier := self._answers.read(question, entry.answer)) is None:
            raise self._refused(
                question, "it was answered before, and only the last round's answer is kept"
            )
        return earlier

    def first_counts(self, readiness: Readiness) -> Readiness:
        """The readiness with the counts that the site gave first for this experiment."""
        if (first := self._answers.first_readiness()) is None:
            return readiness
        counts = {field: getattr(first, field) for field in FIRST_COUNTS}
        if counts != {field: getattr(readiness, field) for field in FIRST_COUNTS}:
            self.log.warning(
                "%s: the cohort has changed since this experiment began; the counts that were told "
                "then are told again",
                self.experiment.name,
            )
        return readiness.model_copy(update=counts)

    # The book's file

    def _read(self) -> Book:
        book = self._file.read()
        if book is None:
            self._check_new()
            return Book(name=self.experiment.name, identity=self.experiment.family)
        if book.identity != self.experiment.family:
            raise UnreadableFileError(f"{self.path}: is the book of another experiment")
        entered = sum(map(len, book.trainings.values()))
        answered = largest_number(self.site.state / LEDGER, self.experiment.family)
        if answered > entered:
            raise UnreadableFileError(
                f"{self.path}: has {entered} questions, and the ledger has answered number "
                f"{answered}: it is an older copy"
            )
        return book

    def _check_new(self) -> None:
        """Refuse to begin a book for an experiment that the ledger says was answered before."""
        identity = self.experiment.family
        for entry in Ledger(self.site.state / LEDGER).entries():
            if entry.get("identity") == identity and entry.get("number"):
                raise UnreadableFileError(
                    f"{self.path}: is missing, and the ledger has answers to this experiment"
                )

    @contextmanager
    def _stored(self) -> Iterator[None]:
        """Turn errors of the book's files into a SiteProblem with a remedy."""
        try:
            yield
        except UnreadableFileError as error:
            raise SiteProblem(
                "internal",
                f"{error}; restore it from a backup. Without it this site cannot tell what was "
                "answered, so it answers nothing to this experiment",
            ) from error
        except OSError as error:
            raise SiteProblem(
                "storage",
                f"{error.filename or self.path}: cannot be written ({error.strerror}), so nothing "
                "was sent; make room, and the question is asked again",
            ) from error


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
