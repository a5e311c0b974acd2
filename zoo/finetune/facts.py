"""What planning must know of a network, so that a plan can be made without torch.

The catalogue's row and the file of the weights tell it (`catalogued.py`), or torch does, once
(`examine.py`); `kept_facts.py` keeps what was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.catalog import ModelSpec, Preprocess


@dataclass(frozen=True, slots=True)
class CutFacts:
    """A cut, and what is on either side of it.

    name, boundary: as in `models.cut.Cut`; None where nothing is frozen. shape: of the features of
    one photo. tensors: a hash of those of the frozen part. frozen, trained: the stages, in words.
    parameters: of the trained part, those of the last layer not counted. kind: what is trained.
    dense: layers on vectors alone. norm: BatchNorm over vectors is trained. old: more than the new
    head is trained.
    """

    name: str | None
    boundary: str | None
    shape: tuple[int, ...]
    tensors: str
    frozen: str
    trained: str
    parameters: int
    kind: Literal["linear", "head", "deeper"]
    dense: bool
    norm: bool
    old: bool

    @property
    def feature_bytes(self) -> int:
        """Return the bytes of the features of one view."""
        numbers = 1
        for length in self.shape:
            numbers *= length
        return 4 * numbers if self.name else 0


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """A network that is to be trained, with a cut for each phase.

    row: of the model as the catalogue or its library has it. origin: where the weights are from, as
    run.json has it. preprocess: of the weights. head: the stage of the new head. per_class:
    parameters of the last layer for each class. why: the reason of the row's own cut. better: the
    size of pictures at which the weights were published as better than at their own, or 0.
    """

    row: ModelSpec
    variant: dict[str, str | float]
    origin: dict[str, str | int]
    preprocess: Preprocess
    weights_sha256: str
    head: str
    per_class: int
    why: str
    cuts: tuple[CutFacts, ...]
    better: int = 0

    @property
    def trained(self) -> bool:
        """Whether the weights to start from were trained."""
        return self.origin["tag"] != "none"

    def parameters(self, cut: CutFacts, classes: int) -> int:
        """Return how many parameters are trained behind a cut."""
        return cut.parameters + self.per_class * classes
