"""A stock Flower app that sends the state dict of a ResNet-50 with one channel to sites and back,
without training."""

import time

import torch
import torchvision
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


def network() -> torch.nn.Module:
    """torchvision's ResNet-50 with one input channel and 18 outputs."""
    net = torchvision.models.resnet50(num_classes=18)
    net.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return net


@client.train()
def train(message: Message, context: Context) -> Message:
    """Load the received weights and send them back."""
    net = network()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    content = RecordDict(
        {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": 10})}
    )
    return Message(content, reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Load the received weights and reply with a figure."""
    network().load_state_dict(message.content["arrays"].to_torch_state_dict())
    metrics = MetricRecord({"num-examples": 10, "auroc": 0.5})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run FedAvg and print when each round starts."""

    class Timed(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            print(f"stock round {server_round} at {time.time():.2f}", flush=True)
            return super().configure_train(server_round, arrays, config, grid)

    rounds = int(context.run_config["rounds"])
    Timed().start(grid=grid, initial_arrays=ArrayRecord(network().state_dict()), num_rounds=rounds)
    print(f"stock round {rounds + 1} at {time.time():.2f}", flush=True)
