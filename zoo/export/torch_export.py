"""A run as a program of torch.export: raw uint8 pictures of any size in, probabilities out.

The resize is torch's own, antialiased and in uint8, which is Pillow's up to a level of 255: of the
whole picture, whose middle is taken then, where zoo resizes the middle alone. torch has no filter
but the triangle and the cubic.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog import Preprocess
from zoo.data.preprocess import fill, full_size
from zoo.disk import writing
from zoo.engine.graph import on_cpu
from zoo.engine.onnx import OnnxModel
from zoo.engine.torch_file import ABOUT, noted
from zoo.errors import UsageError
from zoo.export.convert import convert
from zoo.export.formats import find
from zoo.export.graph import FILTERS, LUMA
from zoo.export.records import Exported, Order
from zoo.network import of_run
from zoo.run import Run

if TYPE_CHECKING:
    from torch import Tensor, nn


def export_run(run: Run, order: Order) -> Exported:
    """Write the program and return it, measured. See `convert`. Raises UsageError."""

    def written(base: Path, path: Path) -> None:
        import torch

        net = of_run(run)
        whole = _whole(on_cpu(net.chain), net.preprocess, net.threshold is not None)
        sides = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}
        example = (torch.zeros(2, 301, 397, 3, dtype=torch.uint8),)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(whole, example, dynamic_shapes=(sides,), strict=False)
            file, about = io.BytesIO(), OnnxModel(base, threads=1).about
            said = {ABOUT: json.dumps(about, ensure_ascii=False)}
            torch.export.save(program, file, extra_files=said)
        noted(file.getvalue())
        with writing(path):
            path.write_bytes(file.getvalue())

    return convert(run, order, find("torch-export"), written)


def _whole(chain: nn.Module, preprocess: Preprocess, several: bool) -> nn.Module:
    """Return Preprocess, network and softmax as one module. Raises UsageError for its filter."""
    import torch
    from torch import nn

    if preprocess.interpolation not in FILTERS:
        raise UsageError(
            f"torch has no {preprocess.interpolation} resize like Pillow's",
            "`zoo export onnx RUN --input tensor` writes the bare network",
        )

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.chain = chain
            shape = (1, preprocess.channels, 1, 1)
            self.mean = nn.Buffer(torch.tensor(preprocess.mean).reshape(shape))
            self.std = nn.Buffer(torch.tensor(preprocess.std).reshape(shape))

        def forward(self, image: Tensor) -> Tensor:
            seen = _seen(image, preprocess).float() / 255
            scores: Tensor = self.chain((seen - self.mean) / self.std)
            return scores.sigmoid() if several else scores.softmax(-1)

    return Whole().eval()


def _seen(image: Tensor, preprocess: Preprocess) -> Tensor:
    """Return what the network sees of raw pictures, N H W 3 to N C S S, uint8."""
    import torch
    from torch.nn import functional

    if preprocess.channels == 1:
        weights = torch.tensor(LUMA, dtype=torch.int32)
        total = (image.int() * weights).sum(-1, keepdim=True) + 0x8000
        image = (total >> 16).to(torch.uint8)
    high, wide = _sides(image.shape[1], image.shape[2], preprocess)
    small = functional.interpolate(
        image.permute(0, 3, 1, 2), size=(high, wide), mode=preprocess.interpolation, antialias=True
    )
    _, height, width = preprocess.shape
    if preprocess.fit == "crop":
        top, left = _half(high - height), _half(wide - width)
        rows, columns = torch.arange(height) + top, torch.arange(width) + left
        return small.index_select(2, rows).index_select(3, columns)  # a slice is guarded by size
    down, across = height - high, width - wide
    pads = (across // 2, across - across // 2, down // 2, down - down // 2)
    return functional.pad(small, pads, value=fill(preprocess))


def _sides(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    """Return height and width of the whole picture when it is resized; symbols while traced."""
    import torch

    if preprocess.fit == "squash":
        return preprocess.height, preprocess.width
    larger: Callable[[int, int], int] = torch.sym_max  # type: ignore[assignment]
    smaller: Callable[[int, int], int] = torch.sym_min  # type: ignore[assignment]
    if preprocess.fit == "crop":
        high, wide = full_size(preprocess)
        both = [larger(high * side // height, wide * side // width) for side in (height, width)]
        return both[0], both[1]
    high, wide = preprocess.height, preprocess.width

    def fitted(length: int) -> int:
        across = (2 * length * wide + width) // (2 * width)
        down = (2 * length * high + height) // (2 * height)
        return larger(1, smaller(across, down))

    return fitted(height), fitted(width)


def _half(number: int) -> int:
    """Return round(number / 2), half to even, in whole numbers."""
    return number // 2 + (number % 2) * ((number // 2) % 2)
