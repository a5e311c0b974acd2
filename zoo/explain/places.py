"""A chain in two, at a stage whose output still has places in the picture.

No hooks: what is before the place is one part, what is behind it the other, and the numbers between
them are a tensor like any other. Places are a grid: C x H x W of a convolution, H x W x C of a
windowed transformer, or the patch tokens of a ViT behind its class and register tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from zoo.catalog import Preprocess
from zoo.errors import UnknownStage
from zoo.models import cut
from zoo.models.chain import steps, whole
from zoo.network import Network

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.models.centres import Axis

MOST_EXTRA = 16  # tokens before those of the patches: a class token, one of a teacher, registers
OCCLUSION = "--occlusion needs nothing but the network's answers"


@dataclass(frozen=True, slots=True)
class Grid:
    """How the places of a stage's output lie: `height` x `width` of them with `channels` numbers.

    form: CHW, HWC or tokens. extra: how many tokens come before those of the patches.
    """

    height: int
    width: int
    channels: int
    form: str
    extra: int = 0

    def maps(self, values: Tensor) -> Tensor:
        """Return what leaves the stage as N C H W."""
        if self.form == "CHW":
            return values
        if self.form == "tokens":
            patches = values[:, self.extra :]
            values = patches.reshape(len(values), self.height, self.width, self.channels)
        return values.movedim(-1, 1)


@dataclass(frozen=True, slots=True)
class _Stage:
    """A place where a chain can be divided: what leaves it for a picture, without N, and the axes.

    axes: of its places down and across, as models/centres.py follows them.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[Axis, Axis] | None


@dataclass(frozen=True, slots=True)
class Tapped:
    """A chain in two after `stage`, whose output has the places of `grid`; modules are shared.

    down, across: pixels from a place to the next, and to the middle of the first; see
    models/centres.py.
    """

    stage: str
    first: nn.Sequential
    rest: nn.Sequential
    grid: Grid
    down: tuple[float, float]
    across: tuple[float, float]

    def over_picture(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Return N h w maps as N H W, each value where the middle of its place is."""
        import torch
        from torch.nn import functional

        axes = []
        for length, count, (step, start) in zip(
            size, maps.shape[1:], (self.down, self.across), strict=True
        ):
            places = (torch.arange(length, device=maps.device) - start) / step
            axes.append(2 * places / max(1, count - 1) - 1)
        rows, columns = torch.meshgrid(*axes, indexing="ij")
        where = torch.stack([columns, rows], -1).expand(len(maps), *size, 2)
        wide = functional.grid_sample(
            maps[:, None], where, padding_mode="border", align_corners=True
        )
        return wide[:, 0]


def grid_of(shape: tuple[int, ...], about: Preprocess) -> Grid | None:
    """Return the places of an output of this shape (without N); None where it has none.

    about: of the picture. Tokens are places where they divide it into squares.
    """
    if len(shape) == 3 and _alike(shape[1], shape[2], about):
        return Grid(shape[1], shape[2], shape[0], "CHW")
    if len(shape) == 3 and _alike(shape[0], shape[1], about):
        return Grid(shape[0], shape[1], shape[2], "HWC")
    if len(shape) == 2:
        both = gcd(about.height, about.width)
        for patch in (side for side in range(1, both) if both % side == 0):
            down, across = about.height // patch, about.width // patch
            if 0 <= (extra := shape[0] - down * across) <= MOST_EXTRA:
                return Grid(down, across, shape[1], "tokens", extra)
    return None


def _alike(height: int, width: int, about: Preprocess) -> bool:
    """Return whether a map has the form of the picture, to a place where that is no square."""
    if min(height, width) < 2:
        return False
    off = abs(width - height * about.width / about.height)
    return off == 0 or (about.height != about.width and off <= 1)


def tap(net: Network, stage: str | None = None) -> Tapped:
    """Return the chain in two after a stage, or after the last one whose places reach the classes.

    The chain is put in eval mode. Raises UnknownStage.
    """
    chain = net.chain.eval()
    if stage is not None:
        return _tapped(net, stage)
    stages = _stages(net)
    head = net.spec.head.split(".")[0]
    for one in reversed(stages):
        grid = grid_of(one.shape, net.preprocess) if one.name.split(".")[0] != head else None
        if grid and not _recurrent(chain):
            found = _at(net, one, grid)
            if grid.form != "tokens" or _reaches_the_classes(net, found):
                return found
    raise UnknownStage(
        f"{net.spec.name} has no stage before its head whose output still has places in the "
        f"picture: {_described(stages)}",
        OCCLUSION,
    )


def _stages(net: Network) -> list[_Stage]:
    """Return the places where the chain can be divided, by one pass of one picture.

    Dotted names are places inside stages that are chains themselves; the last place inside a stage
    has the stage's name.
    """
    return _followed(net, [(whole(net.chain, place), part) for place, part in steps(net.chain)])


def _followed(net: Network, parts: Iterable[tuple[str, nn.Module]]) -> list[_Stage]:
    """Return what leaves each of the parts for one picture, with their names."""
    import torch

    from zoo.models.centres import Follow

    values, found = _noise(net), []
    with torch.no_grad(), Follow(values) as follow:
        for name, part in parts:
            values = part(values)
            found.append(_Stage(name, tuple(values.shape[1:]), follow.of(values)))
    return found


def shape_after(net: Network, stage: str) -> tuple[int, ...]:
    """Return what leaves a stage for one picture, without N. Raises UnknownStage."""
    return _after(net, stage).shape


def _after(net: Network, stage: str) -> _Stage:
    """Return what leaves a stage. Raises UnknownStage."""
    first, _ = cut.halves(net.chain.eval(), stage)
    return _followed(net, [(stage, first)])[0]


def device_of(chain: nn.Module) -> torch.device:
    """Return where the tensors of a chain are."""
    import torch

    return next((one.device for one in chain.parameters()), torch.device("cpu"))


def _tapped(net: Network, stage: str) -> Tapped:
    """Return the chain in two after the stage that was asked for. Raises UnknownStage."""
    found = _after(net, stage)
    grid = None if _recurrent(net.chain) else grid_of(found.shape, net.preprocess)
    if grid is None:
        try:
            hint = f"the last stage whose output has some: {tap(net).stage}"
        except UnknownStage as error:
            hint = error.hint
        gives = " x ".join(map(str, found.shape))
        raise UnknownStage(f"what leaves '{stage}' ({gives}) has no places in the picture", hint)
    return _at(net, found, grid)


def _at(net: Network, stage: _Stage, grid: Grid) -> Tapped:
    from zoo.models.centres import settled

    axes = settled(stage.axes, _noise(net), grid.height, grid.width)
    return Tapped(stage.name, *cut.halves(net.chain, stage.name), grid, *axes)


def _reaches_the_classes(net: Network, tapped: Tapped) -> bool:
    """Return whether what is at the places changes what the head gets at all.

    Behind the last block of a ViT only the class token does. The head itself is left out: one that
    begins with zeros, as a ViT's without weights, lets nothing through.
    """
    import torch
    from torch import nn

    head = net.spec.head.split(".")[0]
    rest = nn.Sequential(*(part for name, part in tapped.rest.named_children() if name != head))

    with torch.no_grad():
        values = tapped.first(_noise(net))
    values = values.detach().requires_grad_()
    with torch.enable_grad():
        found = rest(values.clone())
        signs = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
        (slope,) = torch.autograd.grad((found * signs.to(found.device)).sum(), values)
    return bool(tapped.grid.maps(slope).any())


def _recurrent(part: nn.Module) -> bool:
    """Return whether it reads a picture row by row: its steps are no places."""
    from torch import nn

    return any(isinstance(one, nn.RNNBase) for one in part.modules())


def _noise(net: Network) -> Tensor:
    """Return one picture of noise, always the same."""
    import torch

    noise = torch.randn(1, *net.preprocess.shape, generator=torch.Generator().manual_seed(0))
    return noise.to(device_of(net.chain))


def _described(stages: list[_Stage]) -> str:
    """Return the stages with what leaves them, in words."""
    whole = [one for one in stages if "." not in one.name]
    return ", ".join(f"{one.name} {' x '.join(map(str, one.shape))}" for one in whole)
