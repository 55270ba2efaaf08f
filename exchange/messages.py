"""Every message between coordinator and sites, and its way into and out of a Flower record.

A record holds one JSON text, validated by one of these classes at both ends, and at most one
packed array. The field `kind` tells the classes apart; `MessageType`s at the end of the file say
which reply belongs to which request. Strings are names, versions or words of a fixed list: there
is no free text, so there is no place for a path, an identifier or the text of an exception.
"""

from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from .encoding import Packed
from .experiment import Name, Outcome
from .figures import Count, Missing, ModelName, OperatingPoint, Release, SplitPart
from .reasons import Reason
from .update import Manifest
from .wire import Hash, Wire

Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]


class MessageError(Exception):
    """A record that is not the message it should be."""


def same_minor(one: str, other: str) -> bool:
    """Whether two versions of fedrad understand each other: the first two numbers are the same."""
    return one.split(".")[:2] == other.split(".")[:2]


class Counts(Wire):
    """Units of each class; None where the site withholds them for being too few."""

    positives: Count | None
    negatives: Count | None


class ReadyRequest(Wire):
    """Can the site take part in the experiment of this run?"""

    kind: Literal["ready request"] = "ready request"
    fedrad: Version
    """The coordinator's: a site of another minor version refuses before it does anything."""


class Readiness(Wire):
    """A site's answer to whether it can take part."""

    kind: Literal["readiness"] = "readiness"
    site: Name
    fedrad: Version
    flwr: Version
    torch: Version
    device: Literal["cpu", "cuda"]
    threads: int
    base_sha256: Hash
    trains: bool
    does_not_train_because: Missing | None = None
    tests_other_models: bool = False
    """Whether other sites' local-only models may be scored here."""
    units: dict[SplitPart, dict[Outcome, Counts]]
    set_aside: Count
    """Files that could not be used; the site knows which and why."""


class RoundRequest(Wire):
    """Train through one round, starting from the packed global model."""

    kind: Literal["round request"] = "round request"
    round: Count
    manifest: Manifest


class Monitoring(Wire):
    """The global model, as received, on a site's validation patients. AUROC in [0, 1]; loss is
    the mean binary cross-entropy, or of a generator the mean squared denoising error. Both None
    where withheld or undefined."""

    auroc: float | None = None
    loss: float | None = None
    missing: Missing | None = None


class RoundReply(Wire):
    """A site's round: its update beside this, if it trained."""

    kind: Literal["round"] = "round"
    manifest: Manifest | None
    patients: Count
    images: Count
    """What the update was trained on, for its weight; 0 where the site only evaluated."""
    loss: float | None
    steps: Count
    seconds: float
    monitoring: dict[Outcome, Monitoring]


class BaselineRequest(Wire):
    """Train alone from the base weights, same recipe and budget.

    `travel`: the model is asked for, to be scored at other sites; it stays where the site's policy
    does not share it.
    """

    kind: Literal["baseline request"] = "baseline request"
    travel: bool = False


class BaselineReply(Wire):
    """A site has its local-only model, or says why not. The model lies packed beside this where it
    was asked for and may travel."""

    kind: Literal["baseline"] = "baseline"
    manifest: Manifest | None = None
    missing: Missing | None = None
    loss: float | None = None
    seconds: float = 0.0


class ValidationRequest(Wire):
    """Mix the global model, packed beside this, with the base weights: each of `alphas` of the way
    from these to that; and evaluate the mixtures on the validation patients."""

    kind: Literal["validation request"] = "validation request"
    manifest: Manifest
    alphas: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1, max_length=12)


class ValidationReply(Wire):
    """Figures of each mixture on a site's validation patients, in the order of the request."""

    kind: Literal["validation"] = "validation"
    figures: list[dict[Outcome, Monitoring]]


class ScoreRequest(Wire):
    """Score one model on a part of the patients and keep the scores. Its tensors come packed
    beside this, but for those that the site has: the base's, and its own local-only model's."""

    kind: Literal["score request"] = "score request"
    part: Literal["validation", "test"]
    model: ModelName
    manifest: Manifest | None = None


class ScoreReply(Wire):
    """The scores are there and stay at the site; or why there are none."""

    kind: Literal["scored"] = "scored"
    missing: Missing | None = None


class ReleaseRequest(Wire):
    """Release figures of models that were scored on a part of the patients.

    `operating`: model -> outcome -> what validation patients chose; empty before that.
    """

    kind: Literal["release request"] = "release request"
    part: Literal["validation", "test"]
    models: list[ModelName]
    operating: dict[ModelName, dict[Outcome, OperatingPoint]] = Field(default_factory=dict)


class Refusal(Wire):
    """A site did not do what it was asked."""

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
MessageT = TypeVar("MessageT", bound=Request | Reply)
RequestT = TypeVar("RequestT", bound=Request)
ReplyT = TypeVar("ReplyT", bound=Reply)
RequestT_co = TypeVar("RequestT_co", bound=Request, covariant=True)
ReplyT_co = TypeVar("ReplyT_co", bound=Reply, covariant=True)


@dataclass(frozen=True)
class MessageType(Generic[RequestT_co, ReplyT_co]):
    """One thing that a site can be asked: the request and the reply to it.

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
    """A message, and the array that travels with it, as a Flower record."""
    record = RecordDict({"message": ConfigRecord({"json": message.model_dump_json()})})
    if packed is not None:
        record["packed"] = ArrayRecord({"flat": Array(packed)})
    return record


def from_record(record: RecordDict, kind: type[MessageT]) -> tuple[MessageT, Packed | None]:
    """The message of a record, and its array.

    Raises
    ------
    MessageError
        The record holds no message, or one of another kind. The error names kinds and fields,
        never a value: an odd message's content goes into no log.
    """
    return _of_kind(_message(record, kind), kind), _packed(record)


def reply_from_record(
    record: RecordDict, kind: type[ReplyT]
) -> tuple[ReplyT | Refusal, Packed | None]:
    """As `from_record`, for a reply: a site may always refuse instead."""
    message = _message(record, kind)
    reply = message if isinstance(message, Refusal) else _of_kind(message, kind)
    return reply, _packed(record)


def _message(record: RecordDict, kind: type[Wire]) -> Request | Reply:
    holder = record.get("message")
    text = holder.get("json") if isinstance(holder, ConfigRecord) else None
    if not isinstance(text, str):
        raise MessageError("the record holds no message")
    try:
        return _MESSAGE.validate_json(text)
    except ValidationError as error:
        faults = (".".join(map(str, [*e["loc"], e["type"]])) for e in error.errors())
        raise MessageError(
            f"expected {_name(kind)!r}, received no valid message: {', '.join(faults)}"
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
    if arrays["flat"].dtype != "uint8":
        raise MessageError("packed array is not one of bytes")
    return arrays["flat"].numpy()


def _name(kind: type[Wire]) -> str:
    return str(kind.model_fields["kind"].default)
