"""What defines one training. Frozen, validated once, saved beside its results, and enough to run it again."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trainable.address import is_address
from trainable.errors import UserError

Policy = Literal["none", "light", "full"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
DataOn = Literal["auto", "device", "host"]
Stem = Literal["small", "full"]
Freeze = Literal["none", "early", "most", "all"]
HeadStart = Literal["new", "probe"]

DEFAULT_RATES = {"drop_rate": 0.2, "attn_drop_rate": 0.1, "drop_path_rate": 0.1}
"""What the single run uses for a rate that isn't given, where the architecture has it."""

SMALLEST_IMAGE, LARGEST_IMAGE = 8, 1024
"""Sides in pixels that a model may be built for."""

ARCHITECTURES = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "vit_small": "vit_small_patch16_224",
    "deit_small": "deit_small_distilled_patch16_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
}
"""Our short names and the timm model behind each; any other timm name works too."""


USUAL_CACHE_BYTES = 50_000_000_000


LITE = "lite"
"""Names the weights that come with pip: `trainable.data.lite`."""
PROBE = "all"
"""What is frozen of a configuration that trains a head on frozen features, and nothing else."""


def path_or_address(value: Any) -> Any:
    """A path as Path; an address, such as s3://bucket/images.zip, unchanged: Path would make one slash of its two."""
    return Path(value) if isinstance(value, str) and not is_address(value) else value


def weights_source(value: Any) -> Any:
    """As `path_or_address`, but for `lite`; also within a table of architectures."""
    if isinstance(value, dict):
        return {arch: weights_source(each) for arch, each in value.items()}
    return value if value == LITE else path_or_address(value)


WeightsSource = bool | Path | str
"""timm's published weights (true), a file or a folder of them (its path or address), `lite`, or none (false)."""


def whole_as_int(value: Any) -> Any:
    """8.0 as 8, so that a length is written as people write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class TrialConfig(BaseModel):
    """One configuration: the architecture, its hyper-parameters, the data and the seed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    data: Annotated[Path | str, BeforeValidator(path_or_address)]
    """Folder or archive (.zip, .tar, .tar.gz) of labelled images, or the address of one: s3://BUCKET/images.zip."""
    image_size: int | None = Field(default=None, ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)
    """Side of the square images in pixels; by default the images' own, down to a multiple of 32, at most 224."""
    arch: str = "swin_tiny"
    """Architecture: resnet18/34/50/101/152, vit_small, deit_small, swin_tiny, or any timm name."""
    pretrained: Annotated[WeightsSource | dict[str, WeightsSource], BeforeValidator(weights_source)] = False
    """Start from timm's published weights (true), a weights file or a folder with one for each architecture (its path
    or address), the weights that come with pip (`lite`), or from scratch (false); or a table: architecture to these."""
    head: HeadStart = "new"
    """Where a pretrained model's classifier starts: at random (new), or from logistic regression on the frozen features
    (probe; Kumar et al. 2022)."""
    freeze: Freeze = "none"
    """Which layers of pretrained weights aren't trained: none, the first half (early), the first five sixths (most), or
    all but the classifier (all), which is then the probe itself and takes no updates."""
    backbone_lr: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate of all layers but the classifier, for pretrained weights."""
    stem: Stem | None = None
    """Stem of a ResNet: small (3x3, no pooling), full (as published, a sixteenth of the arithmetic); by default small
    below 96 px."""
    patch_size: int | None = Field(default=None, ge=1)
    """Patch side in pixels for ViT and DeiT; by default image size / 8, at least 4."""
    window_size: int | None = Field(default=None, ge=2)
    """Side of Swin's attention windows in patches; by default the largest of at most 7 that divides the feature map."""
    epochs: Annotated[int | float, BeforeValidator(whole_as_int)] = Field(default=100, gt=0)
    """Full length of the training, also in fractions: the schedules of learning rate and augmentation end here."""
    steps: int | None = Field(default=None, ge=1)
    """Parts of equal length that a training is trained, scored and saved in; by default one an epoch."""
    batch_size: int = Field(default=128, ge=1)
    """Images an update."""
    lr: float = Field(default=2e-5, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's decoupled weight decay; norms, biases and position embeddings have none."""
    warmup_epochs: float = Field(default=0.5, ge=0)
    """Epochs of linear warm-up from 1 % of `lr`, at most a fifth of `epochs`."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Factor on the learning rate from each layer to the one below it; for pretrained weights."""
    clip_grad: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; none: no clipping."""
    drop_rate: float | None = Field(default=None, ge=0, lt=1)
    """Dropout before the classifier."""
    attn_drop_rate: float | None = Field(default=None, ge=0, lt=1)
    """Dropout on attention weights; attention models only."""
    drop_path_rate: float | None = Field(default=None, ge=0, lt=1)
    """Stochastic depth (Huang et al. 2016), the rate of the last block."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target spread over all classes (Szegedy et al. 2016)."""
    mix_prob: float = Field(default=0.5, ge=0, le=1)
    """Probability that a batch is mixed by CutMix or MixUp at full augmentation strength."""
    augment: Policy = "full"
    """Augmentation of single images: none, light (crop and flip), or full (also colour, affine, dropout, blur)."""
    flip: bool = True
    """Whether a mirrored image keeps its label; digits and letters don't."""
    data_on: DataOn = "auto"
    """Where batches are augmented: as a whole on the device, or image by image on the host; auto takes the faster."""
    progressive_resize: bool = False
    """Train on images of half the size first, of three quarters then, and of the whole in the last quarter."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a moving average of the weights, which is then what is evaluated and kept."""
    precision: Precision = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where the hardware has it."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Fixes initial weights, order of images, augmentation, dropout and the `select` split."""
    select_share: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = 0.05
    """Share of the training images that decides; auto: 5 % of large sets, up to 20 % of small ones."""
    cache_dir: Path | None = None
    """Where fetched and decoded images are kept; by default in the user's cache folder."""
    cache_bytes: int = Field(default=USUAL_CACHE_BYTES, ge=0)
    """Most bytes there; data sets that were used least recently go first. 0: no limit."""
    skip_bad_images: bool = False
    """Go on without images that can't be decoded."""

    @property
    def starts_from(self) -> WeightsSource:
        """Where the weights of its architecture come from; UserError if a table of them lacks it."""
        if not isinstance(self.pretrained, dict):
            return self.pretrained
        if self.arch not in self.pretrained:
            raise UserError(f"{self.arch}: pretrained weights are given for {', '.join(self.pretrained)} only; add it")
        return self.pretrained[self.arch]

    @property
    def is_probe(self) -> bool:
        """Whether it trains a head on frozen features, in one go."""
        return self.freeze == PROBE

    def for_its_weights(self) -> "TrialConfig":
        """For a model whose weights are there already: nothing to start from, and images of one size."""
        fresh = {"pretrained": False, "head": "new", "freeze": "none", "progressive_resize": False}
        return self.model_copy(update=fresh)


def make_config(values: dict[str, Any], origin: str, error_type: type[UserError] = UserError) -> TrialConfig:
    """Validate `values`; errors name the field, its value and the rule in one line, with `origin` in front."""
    try:
        return TrialConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][:1])
        raise error_type(f"{origin}: {field} = {values.get(field)!r:.100}: {first['msg']}") from None


def load_config(path: Path, **overrides: Any) -> TrialConfig:
    """Read a trial's `params.json` (or `trial.json`); `overrides` that are not None win over what it holds."""
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the params.json of a trial") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); give the params.json of a trial") from None
    if isinstance(values, dict):
        values = values.get("config", values)
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no configuration; give the params.json of a trial")
    return make_config(values | {name: value for name, value in overrides.items() if value is not None}, str(path))
