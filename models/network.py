"""ResNets with torchvision's layout, one input channel and a head with dropout."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from .schedule import trainable_blocks
from .settings import BLOCKS, Backbone, Block, ModelSettings, RecipeSettings, Stage


@dataclass(frozen=True)
class Layout:
    """A network of the ResNet family, as torchvision's own constructors build it.

    Attributes
    ----------
    block
        Kind of the residual blocks.
    depths
        Number of residual blocks in layer1 to layer4.
    groups
        Groups of the 3x3 convolutions (ResNeXt).
    width_per_group
        Channels of such a group where a residual block has 64 (Wide ResNet, ResNeXt).
    """

    block: type[BasicBlock | Bottleneck]
    depths: tuple[int, int, int, int]
    groups: int = 1
    width_per_group: int = 64


LAYOUTS: dict[Backbone, Layout] = {
    "resnet18": Layout(BasicBlock, (2, 2, 2, 2)),
    "resnet34": Layout(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Layout(Bottleneck, (3, 4, 6, 3)),
    "resnet101": Layout(Bottleneck, (3, 4, 23, 3)),
}
"""He et al. 2016, Deep Residual Learning for Image Recognition, CVPR, Table 1; arXiv 1512.03385."""

_STATISTICS = ("running_mean", "running_var")


class Head(nn.Linear):
    """Linear layer behind dropout; Xavier-uniform weights and bias 0.01, as published.

    A subclass and not a `Sequential`, so that its keys stay `fc.weight`, `fc.bias`.
    """

    def __init__(self, features: int, outputs: int, dropout: float) -> None:
        super().__init__(features, outputs)
        self.dropout = dropout
        nn.init.xavier_uniform_(self.weight)
        nn.init.constant_(self.bias, 0.01)

    def forward(self, features: Tensor) -> Tensor:
        """(N, features) -> logits (N, outputs)."""
        return super().forward(functional.dropout(features, self.dropout, self.training))


class ResNet(TorchvisionResNet):  # type: ignore[misc]
    """torchvision's ResNet with one input channel, `width` times the channels, and `Head`.

    Input: (N, 1, size, size) float in [-1024, 1024]. Output: logits (N, outputs).
    Its state dict has torchvision's keys and, at width 1, torchvision's shapes.

    Parameters
    ----------
    settings
        Which backbone, and its width in (0, 1].
    outputs
        Number of outcomes, K.
    dropout
        Share of the features that the head drops in training, in [0, 1).
    """

    def __init__(self, settings: ModelSettings, outputs: int, dropout: float = 0.1) -> None:
        self.layout = LAYOUTS[settings.backbone]
        self.settings = settings
        super().__init__(
            self.layout.block,
            self.layout.depths,
            groups=self.layout.groups,
            width_per_group=self.layout.width_per_group,
        )
        self.fc = Head(self._channels(512) * self.layout.block.expansion, outputs, dropout)

    def _channels(self, planes: int) -> int:
        """Number of channels at this width; at least one for each group of a convolution."""
        fewest = -(-64 // self.layout.width_per_group)
        return max(fewest, round(planes * self.settings.width))

    def _make_layer(
        self,
        block: type[nn.Module],
        planes: int,
        blocks: int,
        stride: int = 1,
        dilate: bool = False,
    ) -> nn.Sequential:
        if planes == 64:  # layer1: torchvision has built the stem before it, at the usual width
            self.inplanes = self._channels(64)
            self.conv1 = nn.Conv2d(1, self.inplanes, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(self.inplanes)
        layer: nn.Sequential = super()._make_layer(
            block, self._channels(planes), blocks, stride, dilate
        )
        return layer

    def features(self, images: Tensor) -> Tensor:
        """(N, 1, size, size) -> (N, features), the input of the head."""
        return self.run(BLOCKS[:-1], images)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, size, size) -> logits (N, outputs)."""
        return self.run(BLOCKS, images)

    def run(self, blocks: Iterable[Block], x: Tensor) -> Tensor:
        """Run successive blocks.

        Parameters
        ----------
        blocks
            Successive blocks, from the image side.
        x
            Input of the first block: images (N, 1, size, size) for the stem, (N, channels, side,
            side) for layer1 to layer4, (N, features) for the head.

        Returns
        -------
        Tensor
            Output of the last block; `x` if there is no block.
        """
        for block in blocks:
            if block == "stem":
                x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            elif block == "layer4":
                x = self.avgpool(self.layer4(x)).flatten(1)
            else:
                x = (self.fc if block == "head" else getattr(self, block))(x)
        return x

    def block_modules(self, block: Block) -> list[nn.Module]:
        """The modules of a block; `stem` is the first convolution with its normalisation."""
        if block == "stem":
            return [self.conv1, self.bn1]
        return [self.fc if block == "head" else getattr(self, block)]

    def train_blocks(self, trainable: Iterable[Block], *, batchnorm_moves: bool) -> None:
        """Set which blocks are trained; all others are frozen.

        A frozen block is in `eval()`, because `train()` would change its running statistics. With
        `batchnorm_moves` False those of trainable blocks stay unchanged too.
        """
        self.eval()
        self.requires_grad_(False)
        for block in trainable:
            for module in self.block_modules(block):
                module.train()
                module.requires_grad_(True)
        if not batchnorm_moves:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()


def block_of(name: str) -> Block:
    """Block of a state-dict key: `layer3.0.conv1.weight` -> `layer3`."""
    first = name.split(".", 1)[0]
    if first in ("conv1", "bn1"):
        return "stem"
    if first == "fc":
        return "head"
    if first in BLOCKS:
        return first
    raise ValueError(f"{name!r} is no tensor of a ResNet")


def stage_tensors(network: nn.Module, stage: Stage, recipe: RecipeSettings) -> list[str]:
    """Names of the tensors that a stage trains and sites share.

    Parameters
    ----------
    network
        A `ResNet`, or a generator, which has no stages and of which all tensors are shared.
    stage
        Which blocks are trainable.
    recipe
        With `batchnorm = "shared"`, running means and variances are shared too; with "local", no
        tensor of a normalisation is.

    Returns
    -------
    list[str]
        Keys of the state dict, in its order. `num_batches_tracked` is never among them, because
        nothing depends on it.
    """
    if not isinstance(network, ResNet):
        return list(network.state_dict())
    excluded: Iterable[str] = ()
    if recipe.batchnorm == "local":
        excluded = local_tensors(network, stage, recipe)
    elif recipe.batchnorm == "frozen":
        excluded = [n for n in network.state_dict() if n.endswith(_STATISTICS)]
    return [name for name in _trained_tensors(network, stage) if name not in set(excluded)]


def local_tensors(network: nn.Module, stage: Stage, recipe: RecipeSettings) -> list[str]:
    """Names of the tensors that a stage trains and that stay at the site.

    Parameters
    ----------
    network
        The network that is trained.
    stage
        Which blocks are trainable.
    recipe
        With `batchnorm = "local"`, the normalisation of trainable blocks, with scales and shifts,
        stays at the site (FedBN, Li et al. 2021, arXiv 2102.07623); otherwise no tensor does.

    Returns
    -------
    list[str]
        Keys of the state dict, in its order.
    """
    if recipe.batchnorm != "local":
        return []
    norms = tuple(f"{n}." for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d))
    return [name for name in _trained_tensors(network, stage) if name.startswith(norms)]


def _trained_tensors(network: nn.Module, stage: Stage) -> list[str]:
    blocks = trainable_blocks(stage)
    return [
        name
        for name in network.state_dict()
        if block_of(name) in blocks and not name.endswith("num_batches_tracked")
    ]


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values, in the order of the names. It identifies
    weights whatever file they came from."""
    total = sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu", torch.float32).contiguous()
        total.update(f"{name}{tuple(value.shape)}".encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()


def weights_digest(network: nn.Module) -> str:
    """`digest` of all that decides a network's outputs: not of counters."""
    state = network.state_dict()
    return digest({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
