"""A backbone with a new linear head: what is known of it, kept from when it was built.

So that a ranking whose features are there, and any on graphs that are, needs no torch.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import recipe as recipes
from zoo.catalog import Preprocess
from zoo.disk import read_sealed, write_sealed
from zoo.engine.open import NetworkRef
from zoo.errors import ZooError
from zoo.finetune.backbones import meant, multiply_adds, opened
from zoo.finetune.kept_facts import keep_file, place_of, source_of
from zoo.network_ref import frozen_of_name, parted
from zoo.watch import Progress

if TYPE_CHECKING:
    from torch import nn


_WHAT = "a backbone 1"  # count up when what is kept of one changes


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network cut before its new head. model, seed: what it was asked for by.

    made_of, tensors, boundary: of the part before it, see NetworkRef. macs, parameters: of one
    picture and of the whole, without those of the classes; per_class: for each class.
    """

    model: str
    seed: int
    name: str
    origin: dict[str, str | int]
    preprocess: Preprocess
    made_of: dict[str, Any]
    tensors: str
    boundary: str
    macs: int
    parameters: int
    per_class: tuple[int, int]

    def ref(self, preprocess: Preprocess, frozen: nn.Sequential | None = None) -> NetworkRef:
        """Return the frozen part; torch builds it only where that is asked and it is not given.

        preprocess: with another fit, perhaps.
        """

        def build() -> nn.Sequential:
            if frozen is not None:
                return frozen
            return parted(opened(self.model, self.seed)[1], 2, self.seed)[1].frozen

        where = (self.name, self.made_of, self.tensors, self.boundary, preprocess)
        return NetworkRef(*where, build)


def find(
    model: str, classes: int, seed: int, progress: Progress | None = None
) -> tuple[Backbone, nn.Sequential | None]:
    """Return what is known of a model, and its frozen part where it had to be built to be known.

    model: as `zoo rank --models` has it. Raises what opening a network raises.
    """
    name, choice = meant(model)
    asked = recipes.make({"model": name, "data": "photos", "weights": choice, "seed": seed})
    with suppress(OSError, ValueError, TypeError, LookupError, ZooError):
        kept = read_sealed(place_of(asked, 0, source_of(asked), _WHAT))
        said = json.loads(kept or b"")
        said |= {"preprocess": Preprocess.from_dict(said["preprocess"]), "model": model}
        said |= {"seed": seed, "per_class": tuple(said["per_class"])}
        return Backbone(**said), None
    name, start = opened(model, seed, progress)
    chain, parts = parted(start, classes, seed)
    part = frozen_of_name(name, start, parts)
    parameters = sum(each.numel() for each in chain.parameters())
    head = list(parts.trainable.parameters())  # a weight, K x D, and a bias
    macs, own = head[0].shape[1], sum(each.numel() for each in head) // classes
    found = Backbone(
        model=model,
        seed=seed,
        name=name,
        origin=dict(start.origin),
        preprocess=start.preprocess,
        made_of=dict(part.made_of),
        tensors=part.tensors,
        boundary=parts.boundary,
        macs=multiply_adds(chain, start.preprocess) - classes * macs,
        parameters=parameters - classes * own,
        per_class=(macs, own),
    )
    _keep(found, asked, start.source)
    return found, parts.frozen


def _keep(found: Backbone, asked: recipes.Recipe, source: Path | None) -> None:
    record = asdict(found) | {"preprocess": found.preprocess.to_dict()}
    with suppress(ZooError):
        keep_file(asked, found.origin)
        place = place_of(asked, 0, source, _WHAT)
        write_sealed(place, json.dumps(record).encode(errors="surrogatepass"))
