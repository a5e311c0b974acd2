"""Tapping a chain: what leaves any of its stages, as one row of numbers for each picture."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from zoo.errors import UnknownStage, nearest


class Tap(nn.Module):
    """N C S S pictures in; N D features out, and behind them N K class scores where wanted.

    averaged: axes of what leaves the first part over which the mean is taken. rest: the part that
    gives the scores.
    """

    def __init__(
        self, first: nn.Module, averaged: tuple[int, ...] = (), rest: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.first, self.rest, self.averaged = first, rest, averaged

    def forward(self, pictures: Tensor) -> Tensor:
        values = self.first(pictures)
        rows = (values.mean(self.averaged) if self.averaged else values).flatten(1)
        return rows if self.rest is None else torch.cat([rows, self.rest(values).flatten(1)], 1)


class WithCode(nn.Module):
    """An autoencoder that gives both: the picture again, and the code in its middle."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(pictures)
        return self.decoder(code), code


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
        raise UnknownStage(
            f"there is no stage '{full}'" + (f"; {close}" if close else ""), f"stages: {known}"
        )
    at = names.index(parts[0])
    if len(parts) == 1:
        return _chained(children[: at + 1]), _chained(children[at + 1 :])
    stage = children[at][1]
    if not _is_chain(stage):
        raise UnknownStage(
            f"'{full}': {prefix}{parts[0]} is one piece ({type(stage).__name__}), not a chain",
            f"stages: {known}",
        )
    first, second = _halves(cast(nn.Sequential, stage), parts[1:], full, f"{prefix}{parts[0]}.")
    before = [*children[:at], (parts[0], first)]
    after = [(parts[0], second), *children[at + 1 :]]
    return _chained(before), _chained(after if len(second) else after[1:])


def before(chain: nn.Sequential, name: str) -> str:
    """The stage that ends where the one at this dotted name begins; empty for the first one."""
    own, _, rest = name.partition(".")
    names = [name for name, _ in chain.named_children()]
    stage = chain.get_submodule(own)
    inside = before(cast(nn.Sequential, stage), rest) if rest and _is_chain(stage) else ""
    if inside:
        return f"{own}.{inside}"
    at = names.index(own)
    return names[at - 1] if at else ""


def places(chain: nn.Sequential) -> list[str]:
    """Where the chain can be cut, in order, inside its stages too; of parts with parameters."""
    found = []
    for name, stage in chain.named_children():
        inner = list(stage.named_children()) if _is_chain(stage) else []
        parts = [(f"{name}.{child}", part) for child, part in inner] or [(name, stage)]
        found += [place for place, part in parts if any(True for _ in part.parameters())]
    return found


def _is_chain(stage: nn.Module) -> bool:
    """Whether it runs its children one after the other, and does nothing else."""
    return type(stage).forward is nn.Sequential.forward


def _chained(children: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(children))
