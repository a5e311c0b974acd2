"""The rows that the API returns: frozen records, of which pandas and polars make a table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from zoo.catalog import ModelSpec
    from zoo.data.preprocess import Pixels, Values
    from zoo.predict.embed import Embedding as Embedded
    from zoo.predict.rows import Prediction as Predicted
else:
    Pixels = Values = Any  # polars reads the types of fields


class Row:
    """A record that can be written as JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return its fields by name, ready for JSON: arrays and tuples become lists."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.tolist() if hasattr(value, "tolist") else value


@dataclass(frozen=True, slots=True)
class Prediction(Row):
    """What a network says of one picture.

    status: `ok`; `error`, where the picture cannot be read (`error` says why, and there is no
    label); `rejected` or `unknown`, where a label was not to be given. label, probability: the
    likeliest class. labels, probabilities: the `top` likeliest ones; of a network that tells
    several labels all that reach its threshold. distance, set: where they were asked for.

    >>> Prediction("a.jpg", "ok", "cat", 0.9, ("cat",), (0.9,)).to_dict()["label"]
    'cat'
    """

    path: str
    status: str
    label: str | None = None
    probability: float | None = None
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None
    distance: float | None = None
    set: tuple[str, ...] | None = None

    @classmethod
    def of(cls, row: Predicted) -> Prediction:
        """Return a row of `zoo predict` as the API has it."""
        labels, chances = row.labels, row.probabilities
        if row.reached is not None:
            best = sorted(row.reached, key=lambda pair: -pair[1])
            labels, chances = tuple(n for n, _ in best), tuple(p for _, p in best)
        label = labels[0] if labels and row.status == "ok" else None
        first = chances[0] if chances else None
        more = row.error or None, row.distance, row.told
        return cls(row.file, row.status, label, first, labels, chances, *more)


@dataclass(frozen=True, slots=True)
class Embedding(Row):
    """The features of one picture: D float32 numbers, or the error that took their place.

    label: the class of its folder, where it lies in one.
    """

    path: str
    status: str
    label: str | None = None
    features: Values | None = None
    error: str | None = None

    @classmethod
    def of(cls, row: Embedded) -> Embedding:
        """Return a row of `zoo embed` as the API has it."""
        return cls(row.file, row.status, row.label or None, row.features, row.error or None)


@dataclass(frozen=True, slots=True)
class Explanation(Row):
    """Where in a picture the reason for a class is.

    heat: float32 S S in 0..1, the higher the more a place speaks for the class. pixels: uint8
    S S C, what the network sees. Both are None where the picture cannot be read.
    """

    path: str
    status: str
    label: str | None = None
    probability: float | None = None
    heat: Values | None = None
    pixels: Pixels | None = None
    error: str | None = None

    def picture(self) -> Image.Image:
        """Return the photo with the map over it, as `zoo explain` draws it. Raises ImageError."""
        from zoo.errors import ImageError
        from zoo.report.cards import overlay

        if self.heat is None or self.pixels is None:
            raise ImageError(f"{self.path}: {self.error}", "look at `status` before: it is no ok")
        return overlay(self.pixels, self.heat)


@dataclass(frozen=True, slots=True)
class ModelInfo(Row):
    """One network that there is; what nobody knows is None.

    params, macs: parameters, and multiply-adds of a picture. memory: bytes to run one. size: of
    the input, height and width in pixels. classes: None where it gives features, or pictures back.
    acc1, acc5: published ImageNet accuracy in percent, bytes: of the file, licence: all three of
    the first of its `weights`.
    """

    name: str
    family: str
    task: str
    year: int | None
    params: int | None
    macs: int | None
    memory: int | None
    size: tuple[int, int]
    classes: int | None
    acc1: float | None
    acc5: float | None
    bytes: int | None
    licence: str | None
    weights: tuple[str, ...]
    paper: str | None

    @classmethod
    def of(cls, row: ModelSpec) -> ModelInfo:
        """Return a row of the catalogue as the API has it."""
        first, size = row.default_weights, (row.preprocess.height, row.preprocess.width)
        return cls(
            row.name, row.family, row.task, row.year or None, row.params or None, row.macs or None,
            row.memory or None, size, row.num_classes or None, first.acc1 if first else None,
            first.acc5 if first else None, first.size if first else None,
            (first.licence or None) if first else None,
            tuple(one.tag for one in row.weights), row.paper or None,
        )  # fmt: skip
