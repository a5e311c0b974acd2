"""The cut: a chain in two, the frozen part and the trained part.

Only the trained part is ever put in train mode, so frozen BatchNorm cannot drift.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from zoo.errors import UnknownStage, or_nearest
from zoo.models.chain import is_chain, listed, nothing_to_train, steps, whole

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
        early = [at for at in range(len(chain)) if not all(map(nothing_to_train, chain[at + 1 :]))]
        raise UnknownStage(
            f"a cut after '{name}' leaves nothing to train",
            f"cut earlier: {listed(chain[: len(early)])}",
        )
    return Cut(name, boundary, frozen, trainable)


def chained(children: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    from torch import nn

    return nn.Sequential(OrderedDict(children))


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
        hint = f"stages: {known}"
        if full in HEADS and not prefix:
            hint = f"it is the head, which is trained anyway: leave --cut out; {hint}"
        near = [prefix + name for name in names]
        raise UnknownStage(or_nearest(f"there is no stage '{full}'", full, near), hint)
    at = names.index(parts[0])
    if len(parts) == 1:
        return chained(children[: at + 1]), chained(children[at + 1 :])
    stage = children[at][1]
    if not is_chain(stage):
        raise UnknownStage(
            f"'{full}': {prefix}{parts[0]} is one piece ({type(stage).__name__}), not a chain",
            f"stages: {known}",
        )
    first, second = _halves(cast("nn.Sequential", stage), parts[1:], full, f"{prefix}{parts[0]}.")
    before = [*children[:at], (parts[0], first)]
    after = [(parts[0], second), *children[at + 1 :]]
    return chained(before), chained(after if len(second) else after[1:])
