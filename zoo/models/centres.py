"""Where in the picture the middle of each place of a stage is, in pixels.

Kernels that are padded on both sides of an even picture look to the left of a cell's middle at
each stride (by 15.5 pixels of 224 in all, for MobileNetV2 and ResNet), kernels without padding to
the right: a map that is stretched over the picture as it is lies beside what it speaks of. Found
by following each operator of one forward pass (arithmetic of Dumoulin, Visin 2016,
arXiv:1603.07285).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Axis = tuple[float, float]  # pixels from a place to the next, and to the middle of the first
NEAR = 0.15  # by which the step may differ from the picture's share: else it is not understood


def settled(
    found: tuple[Axis, Axis] | None, picture: Tensor, rows: int, columns: int
) -> tuple[Axis, Axis]:
    """Return the axes, down and across, of so many places in a picture N C H W.

    found: what `Follow` has of them; where it has nothing, or operators were not understood, a
    place is taken for a cell of the picture.
    """
    lengths = list(zip((rows, columns), picture.shape[2:], strict=True))
    cells = [(side / count, (side / count - 1) / 2) for count, side in lengths]
    if found is None:
        return cells[0], cells[1]
    sure = [
        one if abs(one[0] / cell[0] - 1) < NEAR else cell
        for one, cell in zip(found, cells, strict=True)
    ]
    return sure[0], sure[1]


class Follow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keep for each tensor where its places are: what no kernel moves is where its input was."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.axes: dict[int, tuple[Axis, Axis]] = {id(picture): ((1.0, 0.0), (1.0, 0.0))}
        self.alive: list[object] = [picture]  # an id is one tensor's only while that lives

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled here, and to skip that torch imports its compiler."""
        return False

    def of(self, values: Tensor) -> tuple[Axis, Axis] | None:
        """Return the axes of a tensor that was computed under this; None where nothing is known."""
        return self.axes.get(id(values))

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        known = [self.axes[id(one)] for one in tree_leaves(args) if id(one) in self.axes]
        if known:
            down, across = known[0]
            moves = _moves(str(func), args)
            placed = _moved(down, *moves[0]), _moved(across, *moves[1])
            for one in tree_leaves(result):
                if isinstance(one, Tensor):
                    self.alive.append(one)
                    self.axes[id(one)] = placed
        return result


def _moves(name: str, args: tuple[Any, ...]) -> list[tuple[float, float]]:
    """Return the stride of an operator, and where its first place looks, down and across."""
    if name.startswith("aten.convolution") and args[1].dim() == 4 and not args[6]:
        kernel, strides, pads, gaps = args[1].shape[2:], args[3], args[4], args[5]
    elif name.startswith(("aten.max_pool2d_with_indices", "aten.avg_pool2d")):
        kernel, strides = _pair(args[1]), _pair(args[2] if len(args) > 2 else args[1])
        pads, gaps = _pair(args[3] if len(args) > 3 else 0), [1, 1]
        if "max" in name and len(args) > 4:
            gaps = _pair(args[4])
    elif name.startswith("aten.constant_pad_nd"):
        pad = [*args[1], 0, 0]
        return [(1, -pad[2]), (1, -pad[0])]
    else:
        return [(1, 0), (1, 0)]
    kernel, strides, pads, gaps = (_pair(one) for one in (kernel, strides or kernel, pads, gaps))
    return [(strides[k], gaps[k] * (kernel[k] - 1) / 2 - pads[k]) for k in (0, 1)]


def _pair(value: Any) -> list[int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values if len(values) == 2 else values * 2


def _moved(axis: Axis, stride: float, shift: float) -> Axis:
    step, start = axis
    return step * stride, start + step * shift
