"""zoo demo: the whole path on data drawn by our own code, offline."""

from __future__ import annotations

import csv
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.console import talk
from zoo.text import percent

LETTERS_EACH, NEW = {"train": 150, "val": 30}, 260


def command(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="New folder to write to. Default: zoo-demo-1, -2, …"),
    ] = None,
) -> int:
    """Draw letters, give LeNet a new head for them, predict and export: half a minute.

    Nothing is downloaded: the LeNet that has learned handwritten digits is in the package. The
    validation pictures are in typefaces that training never sees.
    """
    from zoo.errors import RunError

    started = time.perf_counter()
    folder = output or next(
        path for n in range(1, 10_000) if not (path := Path(f"zoo-demo-{n}")).exists()
    )
    if folder.exists():
        raise RunError(f"{folder} exists already", "choose another folder with -o")
    truth = _draw(folder)
    for title, line in steps(folder):
        code = _step(context, title, line)
        if code:
            return code
    ours, theirs = _labels(folder / "letters.csv"), _labels(folder / "letters-onnx.csv")
    same = sum(ours[name] == theirs[name] for name in ours)
    right = sum(ours[name] == true for name, true in truth.items())
    talk()
    talk(
        f"{right} of {len(truth)} new pictures named rightly ({percent(right / len(truth))}), in "
        f"typefaces never trained on; the exported file gives the same label on {same} of "
        f"{len(ours)}; {time.perf_counter() - started:.0f} s in all"
    )
    talk("next: zoo finetune resnet50 YOUR_PHOTOS --freeze -o runs/mine")
    return 0


def _draw(folder: Path) -> dict[str, str]:
    """Write the pictures; return the true letter of each of the unlabelled ones."""
    from zoo.data import glyphs
    from zoo.disk import writing

    talk(
        f"drawing letters in {len(glyphs.TRAIN_TYPEFACES)} typefaces for training, "
        f"{len(glyphs.TEST_TYPEFACES)} others for validation, into {folder}/"
    )
    with writing(folder):
        folder.mkdir(parents=True)
        glyphs.write_split(folder / "letters", glyphs.LETTERS, LETTERS_EACH, seed=0)
        return glyphs.write_unlabelled(folder / "new", glyphs.LETTERS, NEW, seed=0)


def steps(folder: Path) -> list[tuple[str, list[str]]]:
    """Return titles and commands; what each reads is what the one before has written."""
    letters, new = str(folder / "runs/letters"), str(folder / "new")
    model = str(folder / "runs/letters/model.onnx")
    transfer = ["--freeze", "--epochs", "20", "--lr", "0.01"]
    return [
        (
            "1. LeNet knows handwritten digits; frozen, it gets a new head for printed letters",
            ["finetune", "lenet/mnist", str(folder / "letters"), *transfer, "-o", letters],
        ),
        (
            "2. Pictures without a label are named",
            ["predict", letters, new, "-o", str(folder / "letters.csv")],
        ),
        ("3. One file that gives the same answers", ["export", "onnx", letters]),
        (
            "4. And it does: no torch, same folder",
            ["predict", model, new, "-o", str(folder / "letters-onnx.csv")],
        ),
    ]


def _step(context: typer.Context, title: str, words: list[str]) -> int:
    """Run one of zoo's own commands; what it raises ends the demo."""
    talk(f"\n{title}\n$ zoo {shlex.join(words)}")
    result = context.find_root().command.main(words, prog_name="zoo", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _labels(path: Path) -> dict[str, str]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}
