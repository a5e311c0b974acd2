"""The cut: a chain in two, the frozen part and the trained part.

Only the trained part is ever put in train mode, so frozen BatchNorm cannot drift.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import UnknownStage

if TYPE_CHECKING:
    from torch import nn


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
    from zoo.models.tap import halves

    frozen, trainable = halves(chain, name)
    boundary = name
    rest = list(trainable.named_children())
    while len(rest) > 1 and nothing_to_train(rest[0][1]):
        boundary, stage = rest.pop(0)
        frozen.add_module(boundary, stage)
    if not any(True for _ in chained(rest).parameters()):
        raise UnknownStage(
            f"a cut after '{name}' leaves nothing to train", f"cut earlier: {listed(chain)}"
        )
    parts = Cut(name, boundary, frozen, chained(rest))
    parts.freeze()
    return parts


def chained(children: list[tuple[str, nn.Module]]) -> nn.Sequential:
    from torch import nn

    return nn.Sequential(OrderedDict(children))


def listed(chain: nn.Sequential) -> str:
    return ", ".join(name for name, _ in chain.named_children())


def nothing_to_train(stage: nn.Module) -> bool:
    """Whether a stage gives the same answer in every epoch: no parameters, no chance."""
    from torch import nn

    if any(True for _ in stage.parameters()) or any(True for _ in stage.buffers()):
        return False
    chance = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    return not any(
        isinstance(part, chance) or "drop" in type(part).__name__.lower()
        for part in stage.modules()
    )
