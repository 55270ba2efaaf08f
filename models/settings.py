"""Settings of the network and the recipe. Imports no torch.

The defaults are those of the best model in Goedicke-Fritz et al. 2025 (arXiv 2507.12269).
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
"""`model.backbone`: networks of the ResNet family, by torchvision's names."""
Block = Literal["stem", "layer1", "layer2", "layer3", "layer4", "head"]
Stage = Literal["probe", "layer4", "layer3", "layer2", "all"]

BLOCKS: tuple[Block, ...] = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
STAGES: tuple[Stage, ...] = ("probe", "layer4", "layer3", "layer2", "all")
"""From fewest to most trainable blocks; each stage trains those of the stages before it too."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


Text = Annotated[str, StringConstraints(max_length=200), AfterValidator(_printable)]
"""A text that is shown to people: no line break, no code for a terminal, no change of direction."""


class Settings(BaseModel):
    """Base class of all settings: immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


READING_CHAIN = 3
"""Version of the reading chain, from a file to the network's input (`client.images.reading_chain`).
It is raised whenever its pictures change, so that no stored picture of an earlier version is used,
and no model gets pictures of another version than it was trained on."""

VALUE_RANGE = (-1024.0, 1024.0)
"""Values of black and white in the network's input."""


class InputSettings(Settings):
    """Part of `[model]`: how a radiograph becomes the network's input; the same at every site."""

    size: int = Field(default=512, ge=32, le=2048)
    """Side of the square input in pixels."""
    fit: Literal["pad", "crop"] = "pad"
    """`pad`: extend the picture to a square with black, so that no anatomy is cut off. `crop`: take
    the central square, as in torchxrayvision's own training."""
    region: Literal["whole", "lungs", "lungs-pspnet"] = "whole"
    """`lungs`: first crop to the lung fields with a margin, located by a simple method, for
    whole-body images of newborns. `lungs-pspnet`: locate them with torchxrayvision's network, whose
    weights every site then needs."""


class ModelSettings(InputSettings):
    """`[model]`: the network, the weights that it starts from, and its input."""

    backbone: Backbone = "resnet50"
    width: float = Field(default=1.0, gt=0.0, le=1.0)
    """Number of channels relative to the usual one; below 1 for narrow networks."""
    weights: Text = "resnet50-res512-all"
    """`resnet50-res512-all` (torchxrayvision), `imagenet`, a `.safetensors` file, or `random`."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the weights file, written by `fedrad weights pin`."""
    base_outputs: dict[Text, Text] = {}
    """Outcome of the experiment -> output of the base weights that means the same
    (`label = "Pneumonia"`). The base model is evaluated on these outcomes too."""

    @property
    def input(self) -> InputSettings:
        """The settings of the input alone."""
        return InputSettings(size=self.size, fit=self.fit, region=self.region)

    @model_validator(mode="after")
    def _weights_can_fit(self) -> "ModelSettings":
        if self.weights == "random":
            if self.sha256 is not None:
                raise ValueError('weights = "random" has no file, so sha256 must be left out')
            if self.base_outputs:
                raise ValueError('weights = "random" knows no outcome: leave out base_outputs')
        elif self.weights == "resnet50-res512-all":
            if self.backbone != "resnet50" or self.width != 1.0:
                raise ValueError(
                    'weights "resnet50-res512-all" need backbone = "resnet50" and width = 1.0'
                )
        elif self.weights == "imagenet":
            if self.width != 1.0:
                raise ValueError('weights "imagenet" need width = 1.0')
        elif not self.weights.endswith(".safetensors"):
            raise ValueError(
                f'weights = "{self.weights}": allowed are "resnet50-res512-all", "imagenet", '
                '"random" or the name of a .safetensors file'
            )
        return self


class LearningRates(Settings):
    """Maximum learning rates of the main part, per block (discriminative learning rates)."""

    head: Positive = 1e-3
    layer4: Positive = 5e-4
    layer3: Positive = 2.5e-4
    layer2: Positive = 1e-4
    backbone: Positive = 2.5e-4
    """For the whole backbone if nothing is frozen (`freezing = "none"`)."""


class Thaw(Settings):
    """Share of the main part after which a block becomes trainable."""

    layer4: Fraction = 0.1
    layer3: Fraction = 0.3
    layer2: Fraction = 0.6

    @model_validator(mode="after")
    def _from_the_top(self) -> "Thaw":
        if not self.layer4 <= self.layer3 <= self.layer2:
            raise ValueError(
                f"layer4 = {self.layer4}, layer3 = {self.layer3}, layer2 = {self.layer2}: blocks "
                "thaw from the head down, so layer4 <= layer3 <= layer2"
            )
        return self


class AugmentationSettings(Settings):
    """`recipe.augmentation`: random changes of a training image; each is a class in `augment/`.

    A probability or range of 0 switches an augmentation off. Its keys begin with its name; `fill`
    holds for all.
    """

    rotation: float = Field(default=5.0, ge=0.0, le=180.0)
    """Largest rotation in both directions, degrees."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip (it puts the heart on the right; as published)."""
    zoom: float = Field(default=0.05, ge=0.0, lt=1.0)
    """The scale of the area is drawn from 1 ± zoom."""
    blur: Fraction = 0.5
    """Probability of a Gaussian blur, kernel 9, sigma from `blur_sigma` pixels."""
    blur_sigma: tuple[Positive, Positive] = (0.05, 2.0)
    drop: Fraction = 0.1
    """Probability that an image loses `drop_share` of its pixels."""
    drop_share: Fraction = 0.25
    fill: float = Field(default=-1024.0, ge=-1024.0, le=1024.0)
    """Value of dropped pixels, and of pixels beyond the edge of a rotated image. -1024 is black, as
    beside the body; the published code uses 0, mid-grey on this scale."""


class ProgressionSettings(Settings):
    """Settings of a simulated progression, in which an image is edited step by step (Liang et al.
    2023, arXiv 2309.11745). The defaults are the published ones."""

    images: int = Field(default=10, ge=1, le=100)
    """N: number of edited images after the image itself."""
    strength: float = Field(default=0.5, gt=0.0, le=1.0)
    """γ: share of the noise that each edit adds and removes again."""
    steps: int = Field(default=50, ge=1, le=1000)
    """Number of denoising steps from pure noise; an edit takes γ times as many."""
    guidance: float = Field(default=7.5, ge=0.0, le=100.0)
    """Scale of classifier-free guidance; 0: no condition."""
    outside: Fraction = 0.01
    """β₁: share of an edit that is kept outside the region."""
    inside: Fraction = 0.75
    """β₂: share of an edit that is kept inside the region."""
    mask: Literal["none", "lungs", "lungs-pspnet"] = "lungs"
    """The region: both lungs, by a simple method or by torchxrayvision's network, or everything."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    batch: int = Field(default=8, ge=1, le=1024)
    """Number of images edited at once; it is halved, with a log line, if memory is too small."""

    @model_validator(mode="after")
    def _something_is_edited(self) -> "ProgressionSettings":
        if self.edit_steps < 1:
            raise ValueError(
                f"strength = {self.strength:g} of steps = {self.steps} is less than one denoising "
                "step: raise one of them"
            )
        return self

    @property
    def edit_steps(self) -> int:
        """Denoising steps of one edit, γ·steps."""
        return round(self.strength * self.steps)


class ProgressionAugmentation(ProgressionSettings):
    """`recipe.progression`: simulated later steps of training images, made at the site."""

    probability: Fraction = 0.0
    """Probability that one of its simulated later steps is drawn instead of an image with an
    outcome. With 0 no generator is needed."""
    generator: Text = ""
    """The generator's `.safetensors` file, searched in the same folders as base weights."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    soft: Fraction = 0.0
    """Experimental. Above 0, simulated steps of images without an outcome towards it are used too;
    step n of N has the label n/N of this value."""

    @model_validator(mode="after")
    def _has_a_generator(self) -> "ProgressionAugmentation":
        if self.probability and not (self.generator.endswith(".safetensors") and self.sha256):
            raise ValueError(
                "probability above 0 needs generator, the name of a .safetensors file, and its "
                "sha256 (`sha256sum FILE`)"
            )
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "probe+progressive+cutmix": {},
    "probe+progressive": {"cutmix": 0.0},
    "progressive+cutmix": {"probe": 0.0},
    "progressive": {"probe": 0.0, "cutmix": 0.0},
    "full": {"probe": 0.0, "freezing": "none", "cutmix": 0.0},
    "probe": {"probe": 1.0, "cutmix": 0.0},
}
"""Rows of the paper's ablation, as changes to the defaults. The row "imagenet" is set by
`model.weights`."""


class RecipeSettings(Settings):
    """`[recipe]`: how a site trains.

    The first part of the rounds trains the head alone (linear probe). In the main part blocks thaw
    one after another, and all follow one cycle of the learning rate.
    """

    preset: str = "probe+progressive+cutmix"
    probe: Fraction = 1 / 3
    """Share of the rounds spent on the linear probe (published: 10 of 30)."""
    freezing: Literal["progressive", "none"] = "progressive"
    thaw: Thaw = Thaw()
    local_epochs: int = Field(default=1, ge=1, le=100)
    """Passes over the site's own data per round."""
    batch_size: int = Field(default=8, ge=2, le=4096)
    probe_learning_rate: Positive = 1e-3
    learning_rates: LearningRates = LearningRates()
    warmup: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of the main part in which the learning rate rises (one-cycle, cosine)."""
    momentum: tuple[Fraction, Fraction] = (0.85, 0.95)
    """AdamW's β₁ in the main part: lowest at the peak of the learning rate, highest at both ends,
    as PyTorch's one-cycle does by default and the published runs did. The probe has 0.9."""
    moments: Literal["reset", "keep"] = "reset"
    """AdamW's moments between rounds: reset, or stored at the site; they are never sent."""
    proximal: float = Field(default=0.0, ge=0.0)
    """μ of FedProx (Li et al. 2020, arXiv 1812.06127): μ/2·‖w - w₀‖² is added to the loss, with the
    trained weights w and the received weights w₀. 0 switches it off."""
    probe_weight_decay: float = Field(default=1e-4, ge=0.0)
    head_weight_decay: float = Field(default=1e-5, ge=0.0)
    backbone_weight_decay: float = Field(default=1e-4, ge=0.0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    cutmix: Fraction = 0.5
    """Probability per batch of the main part; λ ~ Beta(1, 1)."""
    batchnorm: Literal["shared", "frozen", "local"] = "shared"
    """Normalisation of trainable blocks; that of frozen blocks never changes. `shared`: sites
    update the running statistics, which are averaged with the pooled-variance formula. `frozen`:
    the statistics stay those of the base weights. `local`: statistics, scales and shifts are the
    site's own and never leave it (FedBN, Li et al. 2021, arXiv 2102.07623); a site that never
    trained uses those of the base weights."""
    augmentation: AugmentationSettings = AugmentationSettings()
    views: int = Field(default=0, ge=0, le=1000)
    """Number of fixed views per image. 0: each use of an image is a fresh view, as published. N:
    each use is one of N fixed views, for which outputs of frozen blocks are computed only once."""
    view_seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the fixed views. It differs from the seed of the experiment, so that folds, local
    models and rows of an ablation share the views."""
    progression: ProgressionAugmentation = ProgressionAugmentation()
    """Simulated later steps of positive images, made by a generator."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        name = given.get("preset", "probe+progressive+cutmix")
        if name not in [*PRESETS]:  # a list, because a value from a file may not be hashable
            raise ValueError(f"preset = {name!r}: allowed are {', '.join(map(repr, PRESETS))}")
        return {**PRESETS[name], **given}

    @model_validator(mode="after")
    def _views_are_of_the_images(self) -> "RecipeSettings":
        if self.views and self.progression.probability:
            raise ValueError(
                "views are fixed views of the images themselves: views = 0 with recipe.progression"
            )
        return self

    @field_validator("momentum")
    @classmethod
    def _momentum_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] <= value[1] < 1:
            raise ValueError(f"momentum = {list(value)}: allowed is [lowest, highest], below 1")
        return value

    @field_validator("augmentation")
    @classmethod
    def _blur_range(cls, value: AugmentationSettings) -> AugmentationSettings:
        if value.blur_sigma[0] > value.blur_sigma[1]:
            raise ValueError(
                f"blur_sigma = {list(value.blur_sigma)}: allowed is [smallest, largest]"
            )
        return value
