"""What a person may set about the network and the recipe. Imports no torch.

The defaults are those of the best model in Goedicke-Fritz et al. 2025 (arXiv 2507.12269).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
"""`model.backbone`: networks of the ResNet family, by torchvision's names."""
Block = Literal["stem", "layer1", "layer2", "layer3", "layer4", "head"]
Stage = Literal["probe", "layer4", "layer3", "layer2", "all"]

BLOCKS: tuple[Block, ...] = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
STAGES: tuple[Stage, ...] = ("probe", "layer4", "layer3", "layer2", "all")
"""From fewest to most trainable blocks; each stage holds those before it."""


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


READING_CHAIN = 2
"""Version of the reading chain, from a file to the network's input (`client.images.reading_chain`).
Raised whenever its pictures change, so that none made the old way is taken for a new one, and no
model is given pictures that it was not trained on."""

VALUE_RANGE = (-1024.0, 1024.0)
"""Black and white of the network's input."""


class InputSettings(Settings):
    """How a radiograph becomes the network's input: part of `[model]`, the same at every site."""

    size: int = Field(default=512, ge=32, le=2048)
    """Side of the square input in pixels."""
    fit: Literal["pad", "crop"] = "pad"
    """`pad` a picture to a square with black, so that no anatomy is cut off; `crop` takes the
    central square, as torchxrayvision's own training did."""
    region: Literal["whole", "lungs", "lungs-pspnet"] = "whole"
    """`lungs` crops to the lung fields with a margin first, found by a simple method: for
    whole-body images of newborns. `lungs-pspnet` finds them with torchxrayvision's network, whose
    weights every site must then have."""


class ModelSettings(InputSettings):
    """`[model]`: which network, the weights it starts from, and its input."""

    backbone: Backbone = "resnet50"
    width: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the usual number of channels; below 1 for narrow networks."""
    weights: str = "resnet50-res512-all"
    """`resnet50-res512-all` (torchxrayvision), `imagenet`, a `.safetensors` file, or `random`."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the weights file, written by `fedrad weights pin`."""
    base_outputs: dict[str, str] = {}
    """Experiment outcome -> output of the base weights that names the same thing. Where given,
    the base model is evaluated on that outcome too (`label = "Pneumonia"`)."""

    @property
    def input(self) -> InputSettings:
        """How files become the network's input, apart from the network."""
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
    """The whole backbone where nothing is frozen (`freezing = "none"`)."""


class Thaw(Settings):
    """Share of the main part after which a block becomes trainable."""

    layer4: Share = 0.1
    layer3: Share = 0.3
    layer2: Share = 0.6

    @model_validator(mode="after")
    def _from_the_top(self) -> "Thaw":
        if not self.layer4 <= self.layer3 <= self.layer2:
            raise ValueError(
                f"layer4 = {self.layer4}, layer3 = {self.layer3}, layer2 = {self.layer2}: blocks "
                "thaw from the head down, so layer4 <= layer3 <= layer2"
            )
        return self


class AugmentationSettings(Settings):
    """`recipe.augmentation`: random changes of a training image, one class each in `augment/`.

    A probability or range of 0 turns one off. The keys of one begin with its name; `fill` is for
    all.
    """

    rotation: float = Field(default=5.0, ge=0.0, le=180.0)
    """Largest rotation either way, degrees."""
    flip: Share = 0.5
    """Probability of a horizontal flip (it puts the heart on the right; as published)."""
    zoom: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Area scale is drawn from 1 ± zoom."""
    blur: Share = 0.5
    """Probability of a Gaussian blur, kernel 9, sigma from `blur_sigma` pixels."""
    blur_sigma: tuple[Positive, Positive] = (0.05, 2.0)
    drop: Share = 0.1
    """Probability that an image loses `drop_share` of its pixels."""
    drop_share: Share = 0.25
    fill: float = Field(default=-1024.0, ge=-1024.0, le=1024.0)
    """What rotation uncovers and what is dropped becomes: -1024 is black, as beside the body; the
    published code leaves 0, mid-grey on this scale."""


class ProgressionSettings(Settings):
    """How an image is edited step by step (Liang et al. 2023, arXiv 2309.11745). The defaults are
    the published ones."""

    images: int = Field(default=10, ge=1, le=100)
    """N: edits after the image itself."""
    strength: float = Field(default=0.5, gt=0.0, le=1.0)
    """γ: share of the noise that each edit adds and takes away again."""
    steps: int = Field(default=50, ge=1, le=1000)
    """Denoising steps from pure noise; an edit takes γ times as many."""
    guidance: float = Field(default=7.5, ge=0.0, le=100.0)
    """Of classifier-free guidance; 0: no condition at all."""
    outside: Share = 0.01
    """β₁: how much of an edit stays outside the region."""
    inside: Share = 0.75
    """β₂: how much of it stays inside."""
    mask: Literal["none", "lungs", "lungs-pspnet"] = "lungs"
    """The region: both lungs by a simple method or by torchxrayvision's network, or everything."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    batch: int = Field(default=8, ge=1, le=1024)
    """Images edited at once; halved, and said, where memory does not suffice."""

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
    """`recipe.progression`: training images further along their own disease, made at the site."""

    probability: Share = 0.0
    """That a draw of an image with an outcome is one of its simulated later steps; 0: never, and no
    generator is needed."""
    generator: str = ""
    """The generator's `.safetensors` file, looked for as base weights are."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    soft: Share = 0.0
    """Experimental. Above 0, steps of an image without an outcome towards it are used too: the
    label of step n of N is n/N of this."""

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
"""Rows of the paper's ablation, as changes to the defaults; "imagenet" is a row by its weights."""


class RecipeSettings(Settings):
    """`[recipe]`: how a site trains.

    A recipe runs over `rounds` passes. Its first part trains the head alone (linear probe); in
    the main part blocks thaw one after another and all follow one learning-rate cycle.
    """

    preset: str = "probe+progressive+cutmix"
    probe: Share = 1 / 3
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
    momentum: tuple[Share, Share] = (0.85, 0.95)
    """AdamW's β₁ in the main part: lowest where the learning rate peaks, highest at both ends
    (PyTorch's one-cycle does so by default, so the published runs did). The probe has 0.9."""
    moments: Literal["reset", "keep"] = "reset"
    """AdamW's moments between rounds: begun afresh, or kept at the site (they never travel)."""
    proximal: float = Field(default=0.0, ge=0.0)
    """μ of FedProx (Li et al. 2020, arXiv 1812.06127): the loss gains μ/2·‖w - w₀‖² over the
    trained weights, w₀ being those received. 0 turns it off."""
    probe_weight_decay: float = Field(default=1e-4, ge=0.0)
    head_weight_decay: float = Field(default=1e-5, ge=0.0)
    backbone_weight_decay: float = Field(default=1e-4, ge=0.0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    cutmix: Share = 0.5
    """Probability per batch of the main part; λ ~ Beta(1, 1)."""
    batchnorm: Literal["shared", "frozen", "local"] = "shared"
    """Normalisation of trainable blocks (that of frozen blocks never moves). `shared`: running
    statistics are updated at the site and averaged with the pooled-variance formula. `frozen`:
    statistics stay those of the base weights. `local`: statistics, scales and shifts are the
    site's own and never leave it (FedBN, Li et al. 2021, arXiv 2102.07623); a site that has none,
    as it never trained, uses the base's."""
    augmentation: AugmentationSettings = AugmentationSettings()
    views: int = Field(default=0, ge=0, le=1000)
    """Augmented views per image. 0: each use of an image is a fresh draw, as published. N: each
    use is one of N fixed views, so what frozen blocks make of a view is computed once."""
    view_seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the fixed views. Apart from the experiment's, so that folds, local models and rows
    of an ablation share them."""
    progression: ProgressionAugmentation = ProgressionAugmentation()
    """Positives further along their own disease, by a generator."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        name = given.get("preset", "probe+progressive+cutmix")
        if name not in [*PRESETS]:  # a list: what a file holds need not be hashable
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
