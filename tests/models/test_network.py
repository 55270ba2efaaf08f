"""The network: torchvision's ResNet for grey images, in trainable and frozen blocks."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from fedrad.models.examples import Examples
from fedrad.models.network import LAYOUTS, ResNet, block_of, digest, local_tensors, stage_tensors
from fedrad.models.schedule import Schedule, trainable_blocks
from fedrad.models.settings import BLOCKS, STAGES, Backbone, ModelSettings, RecipeSettings, Stage
from fedrad.models.training import train_round

BACKBONES = get_args(Backbone)
CPU = torch.device("cpu")


def network(backbone: str = "resnet18", width: float = 0.125, outputs: int = 1) -> ResNet:
    torch.manual_seed(3)
    settings = ModelSettings.model_validate(
        {"backbone": backbone, "width": width, "weights": "random", "size": 32}
    )
    return ResNet(settings, outputs)


def torchvision_grey(backbone: str, outputs: int) -> nn.Module:
    torch.manual_seed(4)
    theirs = torchvision.models.get_model(backbone, weights=None, num_classes=outputs)
    theirs.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    for module in theirs.modules():  # statistics of a network that has seen images
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return theirs.eval()


def grey_images(count: int = 2, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return 2048 * torch.rand(count, 1, size, size, generator=generator) - 1024


def examples(count: int = 8) -> Examples:
    images = grey_images(count).squeeze(1).numpy().astype(np.float16)
    return Examples(images, (np.arange(count) % 2).astype(np.float32)[:, None])


def test_every_backbone_that_an_experiment_may_name_is_there() -> None:
    assert set(LAYOUTS) == set(BACKBONES)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_keys_and_shapes_are_torchvisions(backbone: str) -> None:
    ours = {k: tuple(v.shape) for k, v in network(backbone, 1.0, 3).state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in torchvision_grey(backbone, 3).state_dict().items()}
    assert list(ours.items()) == list(theirs.items())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_same_weights_give_torchvisions_output(backbone: str) -> None:
    theirs = torchvision_grey(backbone, 2)
    ours = network(backbone, 1.0, 2)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        images = grey_images(size=64)
        assert torch.equal(ours.eval()(images), theirs(images))


def test_the_head_starts_as_published() -> None:
    """Xavier-uniform weights, ±√(6 / (inputs + outputs)), and bias 0.01."""
    head = network("resnet50", 1.0).fc
    bound = (6 / (2048 + 1)) ** 0.5
    assert head.weight.shape == (1, 2048)
    assert 0.95 * bound < head.weight.abs().max() <= bound
    assert head.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert torch.equal(head.bias, torch.full((1,), 0.01))


def test_the_head_drops_features_in_training_only() -> None:
    head = network(width=0.5).fc
    features = torch.ones(500, head.in_features)
    assert torch.equal(head.eval()(features), nn.functional.linear(features, *head.parameters()))
    with torch.no_grad():
        head.train().weight.fill_(1.0)
        share = (head(features) - 0.01) * 0.9 / head.in_features
    assert share.mean().item() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("width", [0.01, 0.1, 0.37])
def test_a_narrow_network_works(backbone: str, width: float) -> None:
    narrow = network(backbone, width, 2)
    expansion = 4 if "layer1.0.conv3.weight" in narrow.state_dict() else 1
    fewest = math.ceil(64 / LAYOUTS[backbone].width_per_group)  # a channel in every group
    assert narrow.conv1.out_channels == max(fewest, round(64 * width))
    assert narrow.fc.in_features == max(fewest, round(512 * width)) * expansion
    assert narrow.state_dict().keys() == network(backbone, 1.0, 2).state_dict().keys()
    logits = narrow.eval()(grey_images())
    assert logits.shape == (2, 2)
    assert logits.isfinite().all()


def test_every_tensor_belongs_to_one_block() -> None:
    net = network()
    for block in BLOCKS:
        parameters = {id(p) for m in net.block_modules(block) for p in m.parameters()}
        named = {id(p) for name, p in net.named_parameters() if block_of(name) == block}
        assert parameters == named != set()


def test_a_tensor_of_another_network_belongs_to_no_block() -> None:
    with pytest.raises(ValueError, match=r"features\.denseblock1"):
        block_of("features.denseblock1.weight")


ROUND_OF: dict[Stage, int] = {"probe": 0, "layer4": 12, "layer3": 16, "layer2": 22}


def moved_by_a_round(stage: Stage, batchnorm: str) -> tuple[ResNet, set[str], RecipeSettings]:
    """Names of the tensors that one round of training moves by as much as a bit."""
    recipe = RecipeSettings.model_validate(
        {"preset": "full" if stage == "all" else "probe+progressive+cutmix", "batchnorm": batchnorm}
    )
    schedule = Schedule(recipe, 30)
    round_ = ROUND_OF.get(stage, 5)
    assert schedule.stage(round_) == stage
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    train_round(net, examples(), schedule, round_, seed=1, device=CPU)
    moved = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
    return net, {n for n in moved if not n.endswith("num_batches_tracked")}, recipe


@pytest.mark.parametrize("batchnorm", ["shared", "frozen", "local"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_round_moves_the_tensors_of_its_stage_and_no_other_by_a_bit(
    stage: Stage, batchnorm: str
) -> None:
    net, moved, recipe = moved_by_a_round(stage, batchnorm)
    own = local_tensors(net, stage, recipe)
    assert moved == set(stage_tensors(net, stage, recipe)) | set(own)
    assert bool(own) == (batchnorm == "local" and stage != "probe")


@pytest.mark.parametrize("stage", STAGES)
def test_a_local_normalisation_is_kept_whole_and_nothing_else_is(stage: Stage) -> None:
    """FedBN: scales and shifts as well as statistics, recognised here by their shapes: one figure
    per channel, which in a ResNet without convolution biases only a normalisation (and the head's
    bias) has."""
    net, recipe = network(), RecipeSettings(batchnorm="local")
    own, shared = local_tensors(net, stage, recipe), stage_tensors(net, stage, recipe)
    state = net.state_dict()
    assert not set(own) & set(shared)
    assert all(state[name].dim() == 1 and not name.startswith("fc.") for name in own)
    assert [name for name in shared if state[name].dim() == 1] == ["fc.bias"]


@pytest.mark.parametrize("stage", STAGES)
def test_frozen_batchnorm_moves_no_running_statistics(stage: Stage) -> None:
    _, moved, _ = moved_by_a_round(stage, "frozen")
    assert not [name for name in moved if "running" in name]


def test_the_counter_of_a_frozen_block_stands_still_too() -> None:
    net = network()
    train_round(net, examples(), Schedule(RecipeSettings(), 30), 12, seed=1, device=CPU)
    state = net.state_dict()
    counted = {block_of(k) for k, v in state.items() if k.endswith("num_batches_tracked") and v > 0}
    assert counted == {"layer4"}


def test_an_earlier_stage_leaves_no_trace_in_the_next() -> None:
    """`train_blocks` sets all blocks, whatever was trainable before."""
    net = network()
    net.train_blocks(trainable_blocks("all"), batchnorm_moves=True)
    net.train_blocks(trainable_blocks("probe"), batchnorm_moves=True)
    assert {n for n, p in net.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    assert [m for m in net.modules() if m.training] == [net.fc]


@pytest.mark.parametrize("batchnorm_moves", [True, False])
@pytest.mark.parametrize("stage", STAGES)
def test_gradients_reach_exactly_the_parameters_of_the_stage(
    stage: Stage, batchnorm_moves: bool
) -> None:
    net = network()
    net.train_blocks(trainable_blocks(stage), batchnorm_moves=batchnorm_moves)
    net(grey_images(4)).sum().backward()
    reached = {name for name, p in net.named_parameters() if p.grad is not None}
    assert reached == {
        name for name, _ in net.named_parameters() if block_of(name) in trainable_blocks(stage)
    }


@pytest.mark.parametrize("batchnorm", ["shared", "frozen"])
def test_a_stage_holds_the_tensors_of_those_before_it(batchnorm: str) -> None:
    net, recipe = network(), RecipeSettings.model_validate({"batchnorm": batchnorm})
    tensors = [stage_tensors(net, stage, recipe) for stage in STAGES]
    assert tensors[0] == ["fc.weight", "fc.bias"]
    assert all(set(less) < set(more) for less, more in itertools.pairwise(tensors))
    everything = [
        name
        for name in net.state_dict()
        if not name.endswith("num_batches_tracked")
        and (batchnorm == "shared" or "running" not in name)
    ]
    assert tensors[-1] == everything  # in the order of the state dict


def test_weights_are_known_by_names_shapes_and_values_alone() -> None:
    state = network().state_dict()
    own = digest(state)
    assert own == digest(dict(reversed(state.items())))
    assert own == digest({k: v.double() for k, v in state.items()})
    nudged = torch.nextafter(state["fc.bias"], torch.tensor(1.0))
    assert own != digest({**state, "fc.bias": nudged})
    assert own != digest({**state, "fc.weight": state["fc.weight"].T})
    renamed = {("fc.offset" if k == "fc.bias" else k): v for k, v in state.items()}
    assert own != digest(renamed)
