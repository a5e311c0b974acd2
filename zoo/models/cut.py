"""The cut: a chain in two, the frozen part and the trained part.

Only the trained part is ever put in train mode, so frozen BatchNorm cannot drift.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from zoo.catalog import ModelSpec, Preprocess
from zoo.errors import UnknownStage, nearest

if TYPE_CHECKING:
    from torch import nn

HEADS = ("classifier", "fc", "head", "heads", "logits", "output")  # what libraries call a head


@dataclass(frozen=True, slots=True)
class Cut:
    """name: the last frozen stage as asked for. boundary: the last stage that runs frozen.

    The boundary lies behind the cut where the stages that follow have nothing to train (pooling,
    flatten): running them once as well makes what is kept smaller.
    """

    name: str
    boundary: str
    frozen: nn.Sequential
    trainable: nn.Sequential

    def freeze(self) -> None:
        """Cuts of one chain share its stages: the one that is worked with says what is frozen."""
        self.frozen.requires_grad_(False).eval()
        self.trainable.requires_grad_(True)


def cut(chain: nn.Sequential, name: str) -> Cut:
    """Cuts after the stage of this name; a dotted name cuts inside a stage that is a chain itself.

    Raises UnknownStage with the list of what there is.
    """
    halves(chain, name)  # raises where there is no such stage
    places = steps(chain)
    at = max(at for at, (place, _) in enumerate(places) if f"{place}.".startswith(f"{name}."))
    while at + 2 < len(places) and nothing_to_train(places[at + 1][1]):
        at += 1
    boundary = whole(chain, places[at][0])
    frozen, trainable = halves(chain, boundary)
    if not any(True for _ in trainable.parameters()):
        stages = list(chain)
        early = [
            at for at in range(len(stages)) if not all(map(nothing_to_train, stages[at + 1 :]))
        ]
        raise UnknownStage(
            f"a cut after '{name}' leaves nothing to train",
            f"cut earlier: {listed(chain[: len(early)])}",
        )
    return Cut(name, boundary, frozen, trainable)


def steps(chain: nn.Sequential, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return what runs one after the other, inside stages that are chains themselves, too."""
    found: list[tuple[str, nn.Module]] = []
    for name, stage in chain.named_children():
        inner = steps(cast("nn.Sequential", stage), f"{prefix}{name}.") if _is_chain(stage) else []
        found += inner or [(f"{prefix}{name}", stage)]
    return found


def whole(chain: nn.Sequential, place: str) -> str:
    """Return the stage that this place is the end of, if it is the end of one."""
    while "." in place:
        stage, _, last = place.rpartition(".")
        if [name for name, _ in chain.get_submodule(stage).named_children()][-1] != last:
            break
        place = stage
    return place


def chained(children: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    from torch import nn

    return nn.Sequential(OrderedDict(children))


def listed(chain: nn.Sequential) -> str:
    return ", ".join(name for name, _ in chain.named_children())


def nothing_to_train(stage: nn.Module) -> bool:
    """Whether a stage gives the same answer in every epoch: no parameters, no chance."""

    if any(True for _ in stage.parameters()) or any(True for _ in stage.buffers()):
        return False
    return not any(_by_chance(part) for part in stage.modules())


def _by_chance(part: nn.Module) -> bool:
    """Return whether a part drops some numbers by chance, or looks at the rest of its batch."""
    from torch import nn

    if isinstance(part, nn.modules.batchnorm._NormBase):
        return True
    drops = "drop" in type(part).__name__.lower()
    return drops and getattr(part, "p", getattr(part, "drop_prob", 1.0)) != 0


def only_head(parts: Cut, chain: nn.Sequential, spec: ModelSpec, shape: tuple[int, ...]) -> bool:
    """Whether the fresh head is the first thing that the cached features meet, number for number.

    shape: of the features of one photo.
    """
    first = first_layer(parts.trainable)
    fits = getattr(first, "in_features", None) == int(np.prod(shape))
    return fits and any(first is part for part in chain.get_submodule(spec.head).modules())


def is_linear(parts: Cut, chain: nn.Sequential, stage: str, shape: tuple[int, ...]) -> bool:
    """Whether nothing but one linear layer is trained, on features as they are kept."""
    from torch import nn

    head = chain.get_submodule(stage)
    silent = (nn.Sequential, nn.Flatten, nn.Identity, nn.modules.dropout._DropoutNd)
    return (
        isinstance(head, nn.Linear)
        and head.in_features == int(np.prod(shape))
        and all(part is head or isinstance(part, silent) for part in parts.trainable.modules())
    )


def feature_shape(parts: Cut, preprocess: Preprocess) -> tuple[int, ...]:
    """What the frozen part gives for one picture, found by running it on zeros.

    On torch's meta device nothing would be computed, but its first BatchNorm imports torch's
    compiler, which takes ten times as long.
    """
    import torch

    torch.set_num_threads(1)  # one picture; the loop sets its own number
    with torch.inference_mode():
        picture = torch.zeros(1, *preprocess.shape)
        return tuple(parts.frozen(picture).shape[1:])


def halves(chain: nn.Sequential, name: str) -> tuple[nn.Sequential, nn.Sequential]:
    """The chain up to and with the stage of this name, and the rest; the modules are shared.

    A dotted name is a place inside a stage that is a chain itself. Raises UnknownStage with the
    list of what there is.
    """
    return _halves(chain, name.split("."), name)


def _halves(
    chain: nn.Sequential, parts: list[str], full: str, prefix: str = ""
) -> tuple[nn.Sequential, nn.Sequential]:
    children = list(chain.named_children())
    names = [name for name, _ in children]
    known = ", ".join(prefix + name for name in names)
    if parts[0] not in names:
        close = nearest(full, [prefix + name for name in names])
        hint = f"stages: {known}"
        if full in HEADS and not prefix:
            hint = f"it is the head, which is trained anyway: leave --cut out; {hint}"
        raise UnknownStage(f"there is no stage '{full}'" + (f"; {close}" if close else ""), hint)
    at = names.index(parts[0])
    if len(parts) == 1:
        return chained(children[: at + 1]), chained(children[at + 1 :])
    stage = children[at][1]
    if not _is_chain(stage):
        raise UnknownStage(
            f"'{full}': {prefix}{parts[0]} is one piece ({type(stage).__name__}), not a chain",
            f"stages: {known}",
        )
    first, second = _halves(cast("nn.Sequential", stage), parts[1:], full, f"{prefix}{parts[0]}.")
    before = [*children[:at], (parts[0], first)]
    after = [(parts[0], second), *children[at + 1 :]]
    return chained(before), chained(after if len(second) else after[1:])


def before(chain: nn.Sequential, name: str) -> str:
    """The stage that ends where the one at this dotted name begins; empty for the first one."""
    own, _, rest = name.partition(".")
    names = [name for name, _ in chain.named_children()]
    stage = chain.get_submodule(own)
    inside = before(cast("nn.Sequential", stage), rest) if rest and _is_chain(stage) else ""
    if inside:
        return f"{own}.{inside}"
    at = names.index(own)
    return names[at - 1] if at else ""


def _is_chain(stage: nn.Module) -> bool:
    """Whether it runs its children one after the other, and does nothing else."""
    from torch import nn

    return type(stage).forward is nn.Sequential.forward


def first_layer(model: nn.Module) -> nn.Module | None:
    """The first part of the trained network that has parameters of its own."""
    for part in model.modules():
        if any(True for _ in part.parameters(recurse=False)):
            return part
    return None
