"""The file of a question book."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.names import Name
from fedrad.exchange.wire import Hash
from fedrad.system.files import JsonFile


class Entry(BaseModel):
    """A question that was asked.

    `number` counts the questions of the experiment, from 1. `model` is the SHA-256 of the values of
    the model that was sent with it, if one was. `request` is that of the request without the model.
    `answer` is the SHA-256 of the answer; None until it is stored.
    """

    number: int
    asked: str
    model: Hash | None
    request: Hash
    answer: Hash | None = None


class Book(BaseModel):
    """Content of a book: questions of each training (fold of a cross-validation, else 0)."""

    format: Literal[1] = 1
    name: Name
    identity: Hash
    runs: dict[int, str] = Field(default_factory=dict)
    """Number of each of Flower's runs that asked -> when it first did (UTC)."""
    trainings: dict[int, dict[str, Entry]] = Field(default_factory=dict)
    closed: str | None = None
    """Why nothing is answered any more."""

    def runs_since(self, time: str) -> int:
        """Number of runs that first asked at a time (UTC) or later."""
        return sum(first >= time for first in self.runs.values())


def book_file(state: Path, experiment: Experiment) -> JsonFile[Book]:
    """`books/NAME-IDENTITY.json` in a state folder. All folds of a cross-validation have one."""
    name = f"{experiment.name}-{experiment.family}.json"
    return JsonFile(state / "books" / name, Book)


def all_books(state: Path) -> list[Book]:
    """All books of a site, by name. Raises UnreadableFileError for a damaged one."""
    folder = state / "books"
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return [book for file in files if (book := JsonFile(file, Book).read()) is not None]


def training_of(experiment: Experiment) -> int:
    """Number of a training in the book of its experiment: the fold, else 0."""
    return experiment.evaluation.fold_number if experiment.evaluation.folds else 0
