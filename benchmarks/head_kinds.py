"""The kinds of heads beside each other: accuracy, seconds beside the pass, bytes.

    python -m benchmarks.head_kinds PHOTOS MODEL[=WEIGHTS] …

Each head is a fine-tune of its own in a temporary folder; features are kept, so that the pass is
paid once. Prints a row of a Markdown table for each; `of solved` is the time beside that of the
linear head, which depends less on what else a machine does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from zoo import recipe, weights
from zoo.api.watching import Listener
from zoo.finetune import begin
from zoo.finetune.job import run
from zoo.finetune.prepare import prepare
from zoo.run import Run

HEADS = ("linear", "prototype", "prototype:cosine", "knn:20")


def measured(photos: str, model: str, file: str, head: str) -> tuple[float, float, int]:
    """Return accuracy on the val photos, seconds to find the head, and its bytes."""
    values = {"model": model, "data": photos, "weights": file or None, "head": head}
    given = {name: value for name, value in values.items() if value}
    with TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        run(begin.start(prepare(recipe.make(given)), place, Listener(None)))
        made = Run.open(place)
        stage = made.record["linear_head"]
        state = weights.read_arrays(place / "model.safetensors")
        size = sum(array.nbytes for name, array in state.items() if name.startswith(f"{stage}."))
        (epoch,) = made.metrics()
        return made.record["results"]["accuracy"], epoch["seconds"], size


def main() -> None:
    photos, *models = sys.argv[1:]
    print("| photos | network | head | accuracy | seconds | of solved | kB |")
    print("| --- " * 7 + "|")
    for asked in models:
        model, _, file = asked.partition("=")
        solved = 0.0
        for head in HEADS:
            accuracy, seconds, size = measured(photos, model, file, head)
            solved = solved or seconds
            row = (Path(photos).name, model, head, f"{100 * accuracy:.1f} %", f"{seconds:.2f}")
            more = (f"{seconds / solved:.2f}", f"{size / 1000:,.0f}")
            print("|", " | ".join((*row, *more)), "|", flush=True)


if __name__ == "__main__":
    main()
