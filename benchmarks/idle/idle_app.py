"""A site that decodes the model and sends it back as its update, without training."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedrad.exchange.messages import (
    Monitoring,
    Readiness,
    Refusal,
    RoundReply,
    RoundRequest,
    from_record,
    to_record,
)
from fedrad.exchange.update import pack, unflatten, unpack

app = ClientApp()


@app.query("ready")
def ready(message: Message, context: Context) -> Message:
    """Ready, with the base weights that the node's configuration names."""
    config = context.node_config
    reply = Readiness(
        site=str(config["name"]),
        fedrad="0",
        flwr="0",
        torch="0",
        device="cpu",
        threads=1,
        base_sha256=str(config["base"]),
        trains=True,
        units={},
        set_aside=0,
    )
    return Message(to_record(reply), reply_to=message)


@app.train("round")
def train(message: Message, context: Context) -> Message:
    """Send the model back."""
    request, packed = from_record(message.content, RoundRequest)
    sent = request.manifest
    values = unflatten(sent, unpack(sent, packed))
    manifest, update = pack(
        values, sent.names, round_=sent.round, stage=sent.stage, base_sha256=sent.base_sha256
    )
    reply = RoundReply(
        manifest=manifest,
        patients=10,
        images=10,
        loss=0.5,
        steps=1,
        seconds=0.0,
        monitoring={"label": Monitoring(missing="below minimum")},
    )
    return Message(to_record(reply, update), reply_to=message)


@app.evaluate("scores")
def scores(message: Message, context: Context) -> Message:
    """There is nothing to score."""
    return Message(to_record(Refusal(reason="internal")), reply_to=message)
