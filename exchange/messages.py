"""All messages between coordinator and sites, and their conversion to and from Flower records.

A record holds one JSON text, which one of these classes validates at both ends, and at most one
packed array. The field `kind` distinguishes the classes; each `MessageType` pairs a request with
its reply. Strings are names, versions or words of a fixed list. As there is no free text, no field
can hold a path, an identifier or the text of an exception.

Either side may be hostile. So every field has bounds, and the error about a record that is no valid
message repeats nothing of it.
"""

from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar, get_args

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from fedrad.models.settings import Fraction

from .bounds import (
    MOST_MIXTURES,
    MOST_MODELS,
    MOST_OUTCOMES,
    Count,
    Epsilon,
    Loss,
    RoundNumber,
    Seconds,
    Threads,
)
from .encoding import Packed
from .figures import Missing, ModelName, OperatingPoint, Release, SplitPart
from .message_faults import first_faults, words_of
from .names import Name, Outcome
from .reasons import Reason
from .required_release import ReleaseName
from .update import Manifest
from .wire import Hash, Wire

Version = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+-]{0,39}$")]
LARGEST_MESSAGE = 32 * 2**20
"""Characters of the JSON text of a message. A release of 50 outcomes and 32 sites has some 8
million."""


class MessageError(Exception):
    """A record does not hold the expected message."""


def same_minor(one: str, other: str) -> bool:
    """Whether two versions of fedrad are compatible: their first two numbers are the same."""
    return one.split(".")[:2] == other.split(".")[:2]


class Counts(Wire):
    """Number of units of each class; None where the site withholds it because it is too small."""

    positives: Count | None
    negatives: Count | None


class ReadyRequest(Wire):
    """Asks whether the site can take part in the experiment of this run."""

    kind: Literal["ready request"] = "ready request"
    fedrad: Version
    """The coordinator's version. A site of another minor version refuses at once."""


class Readiness(Wire):
    """A site can take part in the experiment; with its counts, device and versions."""

    kind: Literal["readiness"] = "readiness"
    site: Name
    fedrad: Version
    flwr: Version
    torch: Version
    device: Literal["cpu", "cuda"]
    threads: Threads
    base_sha256: Hash
    release: ReleaseName | None = None
    """Version and hash of the site's code; None of a site whose fedrad does not say it."""
    trains: bool
    does_not_train_because: Missing | None = None
    tests_other_models: bool = False
    """Whether other sites' local-only models may be scored at this site."""
    units: dict[SplitPart, Annotated[dict[Outcome, Counts], Field(max_length=MOST_OUTCOMES)]] = (
        Field(max_length=3)
    )
    set_aside: Count
    """Number of files that could not be used. The site's log names them, with the reasons."""
    left_out: Count | None = 0
    """Number of patients who have reached a limit of the site's budget; None where numbers of
    patients are withheld."""


class RoundRequest(Wire):
    """Asks the site to train one round, starting from the packed global model."""

    kind: Literal["round request"] = "round request"
    round: RoundNumber
    manifest: Manifest


class Monitoring(Wire):
    """A figure of the received global model on a site's validation patients, with noise and
    rounded: of a classifier the AUROC, of a generator the mean squared denoising error. `missing`:
    why there is none. `epsilon` is the privacy cost of all such figures of the experiment together;
    None where the noise is not accounted."""

    auroc: Fraction | None = None
    loss: Loss | None = None
    epsilon: Epsilon | None = None
    missing: Missing | None = None


MonitoringFigures = Annotated[dict[Outcome, Monitoring], Field(max_length=MOST_OUTCOMES)]
"""Outcome -> monitoring of one model on one site's validation patients."""


class RoundReply(Wire):
    """Result of a site's round. If the site trained, its update is packed with it."""

    kind: Literal["round"] = "round"
    manifest: Manifest | None
    patients: Count
    images: Count
    """`patients` and `images`: number of each that the site trained on, from which its weight
    follows; 0 where it only evaluated."""
    loss: Loss | None
    steps: Count
    seconds: Seconds
    monitoring: MonitoringFigures


class BaselineRequest(Wire):
    """Asks the site to train a local-only model from the base weights, with the same recipe and
    budget.

    `travel`: the coordinator requests the model, to have it scored at other sites. The site sends
    it only if its policy shares it.
    """

    kind: Literal["baseline request"] = "baseline request"
    travel: bool = False


class BaselineReply(Wire):
    """The site has its local-only model; if not, `missing` is the reason. If the model was
    requested and the site shares it, it is packed with the reply."""

    kind: Literal["baseline"] = "baseline"
    manifest: Manifest | None = None
    missing: Missing | None = None
    loss: Loss | None = None
    seconds: Seconds = 0.0


class ValidationRequest(Wire):
    """Asks the site to mix the global model, which is packed with it, with the base weights and to
    evaluate the mixtures on the validation patients. Each of `alphas` is a share of the global
    model: 0 is the base, 1 the global model."""

    kind: Literal["validation request"] = "validation request"
    manifest: Manifest
    alphas: list[Fraction] = Field(min_length=1, max_length=MOST_MIXTURES)


class ValidationReply(Wire):
    """Figures of each mixture on a site's validation patients, in the order of the request."""

    kind: Literal["validation"] = "validation"
    figures: list[MonitoringFigures] = Field(max_length=MOST_MIXTURES)


class ScoreRequest(Wire):
    """Asks the site to score one model on a part of the patients and to store the scores. The
    model's tensors are packed with it, unless the site has them: those of the base and of its own
    local-only model."""

    kind: Literal["score request"] = "score request"
    part: Literal["validation", "test"]
    model: ModelName
    manifest: Manifest | None = None


class ScoreReply(Wire):
    """The scores are stored at the site; if not, `missing` is the reason."""

    kind: Literal["scored"] = "scored"
    missing: Missing | None = None


class ReleaseRequest(Wire):
    """Asks the site for the figures of models that were scored on a part of the patients.

    `operating`: model -> outcome -> threshold and calibration chosen on validation patients; empty
    in the request for validation figures.
    """

    kind: Literal["release request"] = "release request"
    part: Literal["validation", "test"]
    models: list[ModelName] = Field(max_length=MOST_MODELS)
    operating: dict[
        ModelName, Annotated[dict[Outcome, OperatingPoint], Field(max_length=MOST_OUTCOMES)]
    ] = Field(default_factory=dict, max_length=MOST_MODELS)


class Refusal(Wire):
    """A site did not do what the request asked for."""

    kind: Literal["refusal"] = "refusal"
    reason: Reason


Request = (
    ReadyRequest
    | RoundRequest
    | BaselineRequest
    | ValidationRequest
    | ScoreRequest
    | ReleaseRequest
)
Reply = Readiness | RoundReply | BaselineReply | ValidationReply | ScoreReply | Release | Refusal
_MESSAGE: TypeAdapter[Request | Reply] = TypeAdapter(
    Annotated[Request | Reply, Field(discriminator="kind")]
)
_WORDS = words_of((*get_args(Request), *get_args(Reply)))
MessageT = TypeVar("MessageT", bound=Request | Reply)
RequestT = TypeVar("RequestT", bound=Request)
ReplyT = TypeVar("ReplyT", bound=Reply)
RequestT_co = TypeVar("RequestT_co", bound=Request, covariant=True)
ReplyT_co = TypeVar("ReplyT_co", bound=Reply, covariant=True)


@dataclass(frozen=True)
class MessageType(Generic[RequestT_co, ReplyT_co]):
    """A kind of exchange with a site: the request and its reply.

    `name` is Flower's name of the message type, a category and an action: "train.round".
    """

    name: str
    request: type[RequestT_co]
    reply: type[ReplyT_co]

    @property
    def action(self) -> str:
        """The name without its category, as the decorators of a ClientApp take it."""
        return self.name.partition(".")[2]


READY = MessageType("query.ready", ReadyRequest, Readiness)
ROUND = MessageType("train.round", RoundRequest, RoundReply)
BASELINE = MessageType("train.baseline", BaselineRequest, BaselineReply)
VALIDATION = MessageType("evaluate.validation", ValidationRequest, ValidationReply)
SCORE = MessageType("evaluate.score", ScoreRequest, ScoreReply)
RELEASE = MessageType("evaluate.release", ReleaseRequest, Release)


def to_record(message: Request | Reply, packed: Packed | None = None) -> RecordDict:
    """A message and the packed array that is sent with it, as a Flower record."""
    record = RecordDict({"message": ConfigRecord({"json": message.model_dump_json()})})
    if packed is not None:
        record["packed"] = ArrayRecord({"flat": Array(packed)})
    return record


def from_record(record: RecordDict, kind: type[MessageT]) -> tuple[MessageT, Packed | None]:
    """Read the message and the packed array of a record.

    Raises
    ------
    MessageError
        The record holds no message, or one of another kind. The error names kinds and fields of
        ours and nothing that was received, so that no content of an invalid message enters a log.
    """
    return _of_kind(_message(record, kind), kind), _packed(record)


def reply_from_record(
    record: RecordDict, kind: type[ReplyT]
) -> tuple[ReplyT | Refusal, Packed | None]:
    """As `from_record`, for a reply: a site may send a refusal instead of any reply."""
    message = _message(record, kind)
    reply = message if isinstance(message, Refusal) else _of_kind(message, kind)
    return reply, _packed(record)


def read_reply(text: bytes) -> Reply:
    """Read a reply that was stored as JSON. Raises pydantic's ValidationError; MessageError for a
    request."""
    message = _MESSAGE.validate_json(text)
    if not isinstance(message, Reply):
        raise MessageError(f"{message.kind!r} is no reply")
    return message


def _message(record: RecordDict, kind: type[Wire]) -> Request | Reply:
    holder = record.get("message")
    text = holder.get("json") if isinstance(holder, ConfigRecord) else None
    if not isinstance(text, str):
        raise MessageError("the record holds no message")
    if len(text) > LARGEST_MESSAGE:
        raise MessageError(f"the message has more than {LARGEST_MESSAGE:,} characters")
    try:
        return _MESSAGE.validate_json(text)
    except ValidationError as error:
        raise MessageError(
            f"expected {_name(kind)!r}, received no valid message: {first_faults(error, _WORDS)}"
        ) from None


def _of_kind(message: Request | Reply, kind: type[MessageT]) -> MessageT:
    if not isinstance(message, kind):
        raise MessageError(f"expected {_name(kind)!r}, received {message.kind!r}")
    return message


def _packed(record: RecordDict) -> Packed | None:
    arrays = record.get("packed")
    if arrays is None:
        return None
    if not isinstance(arrays, ArrayRecord) or list(arrays) != ["flat"]:
        raise MessageError("the record holds other arrays than one packed array")
    packed = arrays["flat"].numpy()
    if packed.dtype != np.uint8 or packed.ndim != 1:
        raise MessageError("packed array is not one of bytes")
    return packed


def _name(kind: type[Wire]) -> str:
    return str(kind.model_fields["kind"].default)
