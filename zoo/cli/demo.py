"""zoo demo: the whole path on data drawn by our own code, offline; or such data alone."""

from __future__ import annotations

import csv
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from zoo import extras
from zoo.cli import inline
from zoo.cli.console import put, talk
from zoo.text import percent

LETTERS_EACH, NEW = {"train": 150, "val": 30}, 260
SHOWN = 32  # letters in the picture at the end


def command(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="New folder to write to. Default: zoo-demo-1, -2, …"),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="Only write drawn photos of buttons, leaves and mugs, with train and val, into "
            "this new folder, as photos; every command can be tried on them."
        ),
    ] = None,
) -> int:
    """Draw letters, give LeNet a new head for them, predict and export: a minute.

    Nothing is downloaded: the LeNet that has learned handwritten digits is in the package. The
    validation pictures are in typefaces that training never sees. A picture of what it did is
    written at the end.
    """
    from zoo.errors import RecipeError, RunError

    if photos is not None:
        if output is not None:
            raise RecipeError(
                "-o goes with the letters, not with --photos",
                "`zoo demo --photos FOLDER` names the folder for the photos",
            )
        return _draw_photos(photos)
    extras.need("`zoo demo`", "torch", "matplotlib", extra="train",
                instead="`zoo demo --photos photos` draws photos without it")  # fmt: skip
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
    sheet = _sheet(folder, ours, truth)
    talk(f"the first pictures with their answers: {sheet}")
    inline.show(sheet)
    talk(
        f"next: zoo report {shlex.quote(str(folder / 'runs/letters'))}; or photos to try more on: "
        "zoo demo --photos photos"
    )
    return 0


def _draw_photos(folder: Path) -> int:
    """Write the drawn photos and say what to do with them."""
    from zoo.data import objects
    from zoo.disk import writing

    with writing(folder):
        written = objects.write(folder)
    each = " and ".join(f"{count} for {part}" for part, count in objects.COUNTS.items())
    talk(
        f"{written} photos drawn, of each class {each}: {', '.join(objects.KINDS)}\n"
        f"next: zoo finetune timm/mobilenetv2_100 {shlex.quote(str(folder))} -o runs/a"
    )
    put(folder)
    return 0


def _sheet(folder: Path, labels: dict[str, str], truth: dict[str, str]) -> Path:
    """Write a contact sheet of the first pictures with the answer and the true letter."""
    from PIL import Image

    from zoo.report import sheet

    tiles = []
    for name in sorted(truth)[:SHOWN]:
        with Image.open(folder / "new" / name) as picture:
            large = picture.resize((sheet.SIDE, sheet.SIDE), Image.Resampling.NEAREST)
        wrong = labels[name] != truth[name]
        tiles.append((large, labels[name], f"wrong: it is {truth[name]}" if wrong else "right"))
    path = folder / "letters.png"
    sheet.draw(path, tiles)
    return path


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
