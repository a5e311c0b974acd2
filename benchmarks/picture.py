"""The picture of README: val photos of a run with its answers, beside who is taken for whom.

python -m benchmarks.picture RUN PHOTOS -o FILE.png

Two photos of each class in the order of their names: the first that is right, and the first that
is wrong where there is one. Names of wrong answers are red.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from zoo.report.figure import figure_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS, SIDE = 5, 132
Row = dict[str, str]  # of val.csv
RIGHT, WRONG = "#1b6e3c", "#b3261e"


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("run", type=Path)
    given.add_argument("photos", type=Path)
    given.add_argument("-o", "--output", type=Path, required=True)
    asked = given.parse_args()
    with open(asked.run / "val.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    draw(asked.output, rows, asked.photos)
    Image.open(asked.output).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(
        asked.output, optimize=True
    )


def chosen(rows: list[Row]) -> list[Row]:
    """Return two rows of each class: one that is right and one that is wrong, else two alike."""
    found = []
    for label in sorted({row["label"] for row in rows}):
        own = [row for row in rows if row["label"] == label]
        right = [row for row in own if row["correct"] == "1"]
        wrong = [row for row in own if row["correct"] == "0"]
        found += [*right[:1], *wrong[:1], *right[1:2], *wrong[1:2]][:2]
    return found


def draw(path: Path, rows: list[Row], photos: Path) -> None:
    shown = chosen(rows)
    down = -(-len(shown) // ACROSS)
    with figure_in(path, (10.4, 4.5)) as figure:
        left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
        for axes, row in zip(left.subplots(down, ACROSS).flat, shown, strict=True):
            with Image.open(photos / row["path"]) as photo:
                axes.imshow(ImageOps.fit(ImageOps.exif_transpose(photo), (SIDE, SIDE)))
            colour = RIGHT if row["correct"] == "1" else WRONG
            said = f"{row['predicted']} {float(row['probability']):.0%}"
            axes.set_title(said, fontsize=7.5, color=colour, pad=2)
            axes.axis("off")
        _matrix(right.subplots(), rows)


def _matrix(axes: Axes, rows: list[Row]) -> None:
    """Draw how many photos of each class got which answer, in a class a row."""
    names = sorted({row["label"] for row in rows})
    counts = np.zeros((len(names), len(names)), int)
    for row in rows:
        counts[names.index(row["label"]), names.index(row["predicted"])] += 1
    axes.imshow(counts, cmap="Blues")
    for (i, j), count in np.ndenumerate(counts):
        if count:
            colour = "white" if count > counts.max() / 2 else "black"
            axes.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=8)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("label", fontsize=9)
    axes.set_title(f"{np.trace(counts)} of {counts.sum()} val photos right", fontsize=10)


if __name__ == "__main__":
    main()
