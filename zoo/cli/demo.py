"""zoo demo: the whole path on data drawn by our own code, offline."""

from __future__ import annotations

import csv
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.screen import percent, talk

DIGITS_EACH, LETTERS_EACH, NEW = {"train": 250, "val": 50}, {"train": 150, "val": 30}, 260


def command(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to make; else zoo-demo-1.")
    ] = None,
) -> int:
    """Draws digits and letters, trains LeNet, transfers it, predicts and exports: under a minute.

    Nothing is downloaded. The validation pictures are in typefaces that training never sees.
    """
    from zoo.errors import RunError

    started = time.perf_counter()
    folder = output or next(
        path for n in range(1, 10_000) if not (path := Path(f"zoo-demo-{n}")).exists()
    )
    if folder.exists():
        raise RunError(f"{folder} exists already", "choose another folder with -o")
    truth = draw(folder)
    for title, line in steps(folder):
        code = step(title, line)
        if code:
            return code
    ours, theirs = labels(folder / "letters.csv"), labels(folder / "letters-onnx.csv")
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


def draw(folder: Path) -> dict[str, str]:
    """The pictures; gives the true letter of each of the unlabelled ones."""
    from zoo.data import glyphs
    from zoo.disk import writing

    talk(
        f"drawing digits and letters in {len(glyphs.TRAIN_TYPEFACES)} typefaces for training, "
        f"{len(glyphs.TEST_TYPEFACES)} others for validation, into {folder}/"
    )
    with writing(folder):
        folder.mkdir(parents=True)
        glyphs.write_split(folder / "digits", glyphs.DIGITS, DIGITS_EACH, seed=0)
        glyphs.write_split(folder / "letters", glyphs.LETTERS, LETTERS_EACH, seed=0)
        return glyphs.write_unlabelled(folder / "new", glyphs.LETTERS, NEW, seed=0)


def steps(folder: Path) -> list[tuple[str, list[str]]]:
    """Titles and commands; what each reads is what the one before has written."""
    digits, letters = str(folder / "runs/digits"), str(folder / "runs/letters")
    new, model = str(folder / "new"), str(folder / "runs/letters/model.onnx")
    scratch = "--weights none --no-freeze --views 1 --epochs 12 --batch-size 64 --lr 0.002"
    transfer = ["--weights", digits, *["--freeze", "--epochs", "20", "--lr", "0.01"]]
    return [
        (
            "1. LeNet learns digits from nothing",
            ["finetune", "lenet", str(folder / "digits"), *scratch.split(), "-o", digits],
        ),
        (
            "2. Its convolutions are frozen, a new head learns letters",
            ["finetune", "lenet", str(folder / "letters"), *transfer, "-o", letters],
        ),
        (
            "3. Pictures without a label are named",
            ["predict", letters, new, "-o", str(folder / "letters.csv")],
        ),
        ("4. One file that gives the same answers", ["export", "onnx", letters]),
        (
            "5. And it does: no torch, same folder",
            ["predict", model, new, "-o", str(folder / "letters-onnx.csv")],
        ),
    ]


def step(title: str, words: list[str]) -> int:
    from zoo.cli import main

    talk(f"\n{title}\n$ zoo {shlex.join(words)}")
    return main(words)


def labels(path: Path) -> dict[str, str]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}
