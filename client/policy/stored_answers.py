"""The answers that an experiment got, which are sent again if they are asked for again."""

from hashlib import sha256
from pathlib import Path

import numpy as np

from fedrad.client.problems import SiteProblem
from fedrad.exchange.encoding import Packed
from fedrad.exchange.messages import MessageError, Readiness, Reply, RoundReply, read_reply
from fedrad.system.files import replacing, write_whole

from .questions import READINESS


class StoredAnswers:
    """A folder with the answers of one training of an experiment: `QUESTION.json`, and
    `QUESTION.npy` for the tensors that were sent with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self, question: str, reply: Reply, packed: Packed | None) -> str:
        """Store an answer before it is sent; returns its SHA-256. Of the rounds only the last one's
        answer is kept, because a round that has closed is not asked again."""
        text = reply.model_dump_json().encode()
        file = self._file(question)
        if isinstance(reply, RoundReply):
            for older in self.folder.glob("round-*"):
                older.unlink(missing_ok=True)
        if packed is not None:
            with (
                replacing(file.with_suffix(".npy")) as temporary,
                temporary.open("wb") as stream,
            ):
                np.save(stream, packed)
        write_whole(file, text)
        return _digest(text, packed)

    def read(self, question: str, digest: str) -> tuple[Reply, Packed | None] | None:
        """The answer to a question, whose SHA-256 was `digest`; None if it is not kept any more.
        Raises SiteProblem if it was changed."""
        file = self._file(question)
        try:
            text = file.read_bytes()
            values = file.with_suffix(".npy")
            packed = np.load(values, allow_pickle=False) if values.is_file() else None
            if _digest(text, packed) == digest:
                return read_reply(text), packed
        except FileNotFoundError:
            return None
        except (ValueError, MessageError):
            pass
        raise _changed(file)

    def first_readiness(self) -> Readiness | None:
        """The readiness that was answered last, with the counts of the first one; None before.
        Raises SiteProblem if it was changed."""
        file = self._file(READINESS)
        try:
            first = read_reply(file.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, MessageError):
            first = None
        if not isinstance(first, Readiness):
            raise _changed(file)
        return first

    def forget_trained(self) -> None:
        """Remove the answers that were trained: updates, and the local-only model."""
        for file in (*self.folder.glob("round-*"), *self.folder.glob("baseline*")):
            file.unlink(missing_ok=True)

    def _file(self, question: str) -> Path:
        return self.folder / f"{question.replace(' ', '-').replace(':', '-of-')}.json"


def _changed(file: Path) -> SiteProblem:
    return SiteProblem(
        "internal",
        f"{file}: was changed since it was sent; restore it from a backup, or go on without this "
        "site",
    )


def _digest(text: bytes, packed: Packed | None) -> str:
    digest = sha256(text)
    if packed is not None:
        digest.update(packed.data)
    return digest.hexdigest()
