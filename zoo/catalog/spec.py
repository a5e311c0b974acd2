"""The types of the catalogue: inert records, nothing heavy is imported to read them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

Fit = Literal["crop", "pad", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Task = Literal["classify", "reconstruct"]
Size = int | tuple[int, int]  # of a picture in pixels: the side of a square, or height and width


def interpolation(name: str) -> Interpolation:
    """Return a library's word for the filter of a resize; bilinear where it is none of ours."""
    known: tuple[Interpolation, ...] = get_args(Interpolation)
    return next((one for one in known if one == name), "bilinear")


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a picture becomes the input of a network; one record for train, predict and export.

    size: of the input in pixels, one number for a square. crop: side of the centre box as a
    fraction of the picture's shorter side (`crop` only); `size / crop`, rounded, is what the
    libraries resize the shorter side to. mean, std: per channel, for values in [0, 1].
    channels: 3 for RGB, 1 for grey.
    """

    size: Size = 224
    crop: float = 0.875
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    channels: int = 3

    @property
    def height(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of one picture as networks take it: channels, height, width."""
        return self.channels, self.height, self.width

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """Return the record of what `to_dict` gave; fields of a newer version are passed over."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        lists = {name: tuple(values[name]) for name in ("mean", "std")}
        return cls(**{**known, **lists, "size": as_size(values.get("size", cls().size))})


def as_size(value: Any) -> Size:
    """Return a size as records have it: a number, or two as a list or as text, as 192x256.

    Raises ValueError.
    """
    if isinstance(value, str):
        value = value.split("x")
    pair = [value] if isinstance(value, int) else list(map(int, value))
    if not 1 <= len(pair) <= 2:
        raise ValueError("a size is one number, or two")
    return pair[0] if len(set(pair)) == 1 else (pair[0], pair[1])


def pixels(size: Size) -> str:
    """Return a size as people write it: height x width."""
    height, width = (size, size) if isinstance(size, int) else size
    return f"{height} x {width}"


def as_flag(size: Size) -> str:
    """Return a size as it is given to --size."""
    return str(size) if isinstance(size, int) else "{}x{}".format(*size)


def area(size: Size) -> int:
    """Return how many pixels a picture of this size has."""
    return size**2 if isinstance(size, int) else size[0] * size[1]


@dataclass(frozen=True, slots=True)
class Weights:
    """One set of trained parameters and what must be known to use it rightly.

    file: name of the file in a cache or mirror. url: where it comes from. sha256: 64 hex digits,
    or the prefix that the publisher gives. bytes: the file's exact length, where known: the store
    verifies it. mebibytes: its length as the publisher states it, rounded (torchvision: the
    `_file_size` of its weights, in units of 2**20 bytes). classes: name of a list in
    `catalog.classes`. acc1, acc5: published ImageNet accuracy in percent, from `source`.
    """

    tag: str
    url: str
    file: str
    sha256: str = ""
    bytes: int | None = None
    classes: str = "imagenet1k"
    acc1: float | None = None
    acc5: float | None = None
    licence: str = ""
    source: str = ""
    preprocess: Preprocess = field(default_factory=Preprocess)
    mebibytes: float | None = None

    @property
    def size(self) -> int | None:
        """Return the bytes of the file: exact, else to within a kilobyte, else None."""
        if self.bytes is not None or self.mebibytes is None:
            return self.bytes
        return round(self.mebibytes * 2**20)


Published = tuple[tuple[str, str], ...]


def published_name(name: str, published: Published) -> str:
    """Return what a tensor of a chain is called in published files: the first prefix that fits."""
    for ours, theirs in published:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing that a builder can be asked to do otherwise; `name` is its keyword.

    choices: words, the default first. most: without choices, the largest of the whole numbers from
    1 on; 0: a number from 0 to below 1. several: one of them or some with commas, as text.
    """

    name: str
    choices: tuple[str, ...] = ()
    most: int = 0
    several: bool = False
    default: str | float = ""

    @property
    def usual(self) -> str | float:
        """Return the value where nothing is asked for."""
        return self.choices[0] if self.choices else self.default

    @property
    def wanted(self) -> str:
        """Return in words what its value is."""
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        if not self.most:
            return "a number from 0 to below 1"
        if self.several:
            return f"whole numbers from 1 to {self.most:,}, as 2 or 2,1"
        return f"a whole number from 1 to {self.most:,}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One row of the catalogue.

    builder: dotted path of a function `(num_classes) -> nn.Sequential`. stages: names of the
    chain's children, in order. cut: the last stage that `--freeze` freezes. head: dotted name of
    the last Linear. params, macs: counted with the row's own number of classes and input size;
    macs are the multiply-adds of convolutions and matrix products for one picture.
    activations: bytes at the worst moment of a forward pass of one picture in float32, in eval
    mode: the picture, the input and output of the layer at work and all that waits for a later
    one (a residual, the branches of an Inception block). Each further picture of a batch adds as
    much; training keeps every layer's output and takes several times more. The scratch space of
    the libraries that compute (cuDNN, oneDNN) is not in it. 0: not measured.
    ignore: prefixes of tensors that published files hold and this chain does not (auxiliary
    heads). published: where a stage is no child of the library's own model, how its tensors are
    called in published files: pairs of a prefix here and the prefix there, see `published_name`.
    task: `reconstruct` is an autoencoder: its chain gives values in [0, 1] in the shape of its
    input, `code` names the last stage of its encoder, `cut` is that stage, and `head` is empty.
    variants: what the builder can be asked to do otherwise.
    auxiliary: dotted path of a function `(chain, num_classes) -> chain` that adds the stages
    which exist in training only (`zoo.models.auxiliary`).
    """

    name: str
    family: str
    builder: str
    paper: str
    year: int
    params: int
    macs: int
    stages: tuple[str, ...]
    cut: str
    head: str
    num_classes: int = 1000
    preprocess: Preprocess = field(default_factory=Preprocess)
    weights: tuple[Weights, ...] = ()
    ignore: tuple[str, ...] = ()
    published: Published = ()
    note: str = ""
    task: Task = "classify"
    code: str = ""
    variants: tuple[Knob, ...] = ()
    auxiliary: str = ""
    activations: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelSpec:
        """Return the record of what `asdict` gave; fields of a newer version are passed over."""

        def prepared(row: dict[str, Any]) -> dict[str, Any]:
            return row | {"preprocess": Preprocess.from_dict(row["preprocess"])}

        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        lists: dict[str, Any] = {key: tuple(values.get(key, ())) for key in ("stages", "ignore")}
        lists["published"] = tuple((ours, theirs) for ours, theirs in values.get("published", ()))
        lists["weights"] = tuple(Weights(**prepared(row)) for row in values["weights"])
        lists["variants"] = tuple(
            Knob(**knob | {"choices": tuple(knob["choices"])}) for knob in values["variants"]
        )
        return cls(**prepared(known) | lists)

    @property
    def memory(self) -> int:
        """Return the bytes of a forward pass of one picture, in float32; 0: unknown.

        A batch of N takes `4 * params + N * activations`.
        """
        return 4 * self.params + self.activations if self.activations else 0

    @property
    def default_weights(self) -> Weights | None:
        """Return the first set of weights, which is used unless another is asked for."""
        return self.weights[0] if self.weights else None
