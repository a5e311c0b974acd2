"""The loss around a network as contours and as a surface, in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zoo.report.figure import DOTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

Values = np.ndarray[Any, np.dtype[np.float64]]
INCHES = (12.0, 5.4)
LEVELS = 17
LEAST, FACTOR = 0.01, 10_000.0  # a loss below is drawn as that, and one so many times above, too


def draw(along: Values, losses: Values) -> Image.Image:
    """Return the picture. losses: G x G; colours and heights are logarithmic, numbers losses."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    finite = losses[np.isfinite(losses)]
    least = max(float(finite.min(initial=np.inf)), LEAST)
    least = least if np.isfinite(least) else LEAST
    most = max(least, min(float(finite.max(initial=least)), least * FACTOR))
    shown = np.clip(np.nan_to_num(losses, nan=most, posinf=most), least, most)
    heights = np.log10(shown)
    centre = float(losses[len(along) // 2, len(along) // 2])
    figure = Figure(figsize=INCHES, dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    _contours(figure, along, heights, f"+ the network itself: loss {centre:.4g}")
    _surface(figure, along, heights)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels[..., :3].copy())


def _contours(figure: Figure, along: Values, heights: Values, title: str) -> None:
    """Draw lines of one loss on the left."""
    levels = np.linspace(heights.min(), max(heights.max(), heights.min() + 1e-6), LEVELS)
    left = figure.add_subplot(1, 2, 1)
    filled = left.contourf(along, along, heights, levels, cmap="viridis")
    lines = left.contour(
        along, along, heights, levels[2:-1:3], colors="white", linewidths=0.8, linestyles="solid"
    )
    left.clabel(lines, fmt=lambda height: f"{10**height:.2g}", fontsize=8)
    left.plot(0, 0, marker="+", color="#d62728", markersize=11, markeredgewidth=2)
    left.set_aspect("equal")
    left.set_title(title, fontsize=10)
    left.set_xlabel("first direction, in norms of the filters")
    left.set_ylabel("second direction")
    bar = figure.colorbar(filled, ax=left, shrink=0.85)
    bar.set_label("loss")
    bar.formatter = _losses()
    bar.update_ticks()


def _surface(figure: Figure, along: Values, heights: Values) -> None:
    """Draw the loss as a surface on the right."""
    right: Any = figure.add_subplot(1, 2, 2, projection="3d")
    right.plot_surface(*np.meshgrid(along, along), heights, cmap="viridis",
                       rcount=len(along), ccount=len(along), linewidth=0)  # fmt: skip
    right.zaxis.set_major_formatter(_losses())
    right.set_xticks([-1, 0, 1])
    right.set_yticks([-1, 0, 1])
    right.set_xlabel("first direction")
    right.set_ylabel("second direction")
    right.set_title("loss, logarithmic", fontsize=10)
    right.view_init(elev=35, azim=-60)


def _losses() -> FuncFormatter:
    """Return what writes the loss beside its logarithm's place."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda height, _: f"{10**height:.2g}")
