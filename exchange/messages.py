"""All messages between coordinator and sites, and their conversion to and from Flower records.

A record holds one JSON text, which one of these classes validates at both ends, and at most one
packed array. The field `kind` distinguishes the classes; each `MessageType` pairs a request with
its reply. Strings are names, versions or words of a fixed list. As there is no free text, no field
can hold a path, an identifier or the text of an exception.
"""

from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from .encoding import Packed
from .figures import Count, Missing, ModelName, OperatingPoint, Release, SplitPart
from .names import Name, Outcome
from .reasons import Reason
from .update import Manifest
from .wire import Hash, Wire

Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]


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
    threads: int
    base_sha256: Hash
    trains: bool
    does_not_train_because: Missing | None = None
    tests_other_models: bool = False
    """Whether other sites' local-only models may be scored at this site."""
    units: dict[SplitPart, dict[Outcome, Counts]]
    set_aside: Count
    """Number of files that could not be used. The site's log names them, with the reasons."""
    left_out: Count | None = 0
    """Number of patients who have reached a limit of the site's budget; None where numbers of
    patients are withheld."""


class RoundRequest(Wire):
    """Asks the site to train one round, starting from the packed global model."""

    kind: Literal["round request"] = "round request"
    round: Count
    manifest: Manifest


class Monitoring(Wire):
    """Figures of the received global model on a site's validation patients. `auroc` is in [0, 1];
    `loss` is the mean binary cross-entropy, for a generator the mean squared denoising error. Both
    are None where withheld or undefined."""

    auroc: float | None = None
    loss: float | None = None
    missing: Missing | None = None


class RoundReply(Wire):
    """Result of a site's round. If the site trained, its update is packed with it."""

    kind: Literal["round"] = "round"
    manifest: Manifest | None
    patients: Count
    images: Count
    """`patients` and `images`: number of each that the site trained on, from which its weight
    follows; 0 where it only evaluated."""
    loss: float | None
    steps: Count
    seconds: float
    monitoring: dict[Outcome, Monitoring]


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
    loss: float | None = None
    seconds: float = 0.0


class ValidationRequest(Wire):
    """Asks the site to mix the global model, which is packed with it, with the base weights and to
    evaluate the mixtures on the validation patients. Each of `alphas` is a share of the global
    model: 0 is the base, 1 the global model."""

    kind: Literal["validation request"] = "validation request"
    manifest: Manifest
    alphas: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1, max_length=12)


class ValidationReply(Wire):
    """Figures of each mixture on a site's validation patients, in the order of the request."""

    kind: Literal["validation"] = "validation"
    figures: list[dict[Outcome, Monitoring]]


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
    models: list[ModelName]
    operating: dict[ModelName, dict[Outcome, OperatingPoint]] = Field(default_factory=dict)


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
        The record holds no message, or one of another kind. The error names kinds and fields but
        no value, so that the content of an invalid message enters no log.
    """
    return _of_kind(_message(record, kind), kind), _packed(record)


def reply_from_record(
    record: RecordDict, kind: type[ReplyT]
) -> tuple[ReplyT | Refusal, Packed | None]:
    """As `from_record`, for a reply: a site may send a refusal instead of any reply."""
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
