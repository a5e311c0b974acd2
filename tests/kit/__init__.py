"""The one library of helpers for all tests: what they share that is no fixture.

Here: answers of commands, pictures, runs. Beside it: `data` (photos and tables of photos on disk),
`features` (a cache of features), `hostile` (files that try to run code), `serving` (a web server
that breaks and lies) and `warm` (commands in processes of their own that need not import torch).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from zoo import recipe

if TYPE_CHECKING:
    import pytest
    from torch import Tensor, nn

    from zoo.finetune.job import Job

ROOT = Path(__file__).parents[2]
CLASSES = ("disc", "square", "stripes")
EACH = 12


class Answer(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


Command = Callable[..., "subprocess.CompletedProcess[str]"]
Here = Callable[..., Answer]


def until(what: Callable[[], object], within: float = 600.0) -> None:
    """Wait for what is to come, however slow the machine is: it fails only where it never comes."""
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.005)


def later(patch: pytest.MonkeyPatch, seconds: int = 2) -> None:
    """Let files that are here by now be as old as if it were so many seconds later."""
    now = time.time_ns
    patch.setattr(time, "time_ns", lambda: now() + seconds * 1_000_000_000)


def loaded(code: str) -> set[str]:
    """Return the top-level names of all that a fresh interpreter has imported once it ran."""
    ending = (
        "\nimport sys; print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}),"
        " file=sys.__stderr__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + ending],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    return set(line.split()[1:])


# Files.


def names(folder: Path) -> list[str]:
    """Return what lies in a folder; nothing where there is none."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def csv_rows(text: str | Path) -> list[dict[str, str]]:
    """Return the rows of a table, given as text or as a file."""
    if isinstance(text, Path):
        text = text.read_bytes().decode(errors="surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))


# Pictures.


def picture(kind: str, number: int) -> Image.Image:
    """Return a shape on coloured noise; no two have the same size."""
    random = np.random.default_rng([CLASSES.index(kind), number])
    width, height = 40 + 3 * number, 90 - 4 * number
    noise = random.integers(0, 90, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    pen, colour = ImageDraw.Draw(image), tuple(random.integers(150, 256, 3).tolist())
    side = min(width, height)
    box = (side // 5, side // 5, 4 * side // 5, 4 * side // 5)
    if kind == "disc":
        pen.ellipse(box, colour)
    elif kind == "square":
        pen.rectangle(box, colour)
    else:
        for x in range(0, width, 8):
            pen.line((x, 0, x, height), colour, 3)
    return image


def write_photos(root: Path, classes: tuple[str, ...] = CLASSES, each: int = EACH) -> Path:
    """Write root/CLASS/NN.png: the classes of `picture`."""
    for kind in classes:
        (root / kind).mkdir(parents=True)
        for number in range(each):
            picture(kind, number).save(root / kind / f"{number:02}.png")
    return root


def waves(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return waves and noise in colour, much as a photo is."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    pixels = [127 + 100 * np.sin(x / a + y / b) for a, b in random.uniform(3, 30, (3, 2))]
    noise = random.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(np.stack(pixels, -1) + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# Runs.


class Watcher:
    """Counts what it is told; asks to stop after `after` calls that are about `what`."""

    def __init__(self, what: str = "", after: int = 0) -> None:
        self.what, self.after, self.calls, self.signal = what, after, 0, 0
        self.events: list[object] = []

    def tell(self, event: object) -> None:
        self.events.append(event)

    def progress(self, what: str, done: int, total: int | None) -> None:
        self.calls += what.startswith(self.what)
        if self.after and self.calls >= self.after:
            self.signal = signal.SIGINT


def settings(model: str, data: Path, **values: object) -> recipe.Recipe:
    return recipe.make({"model": model, "data": str(data), "weights": "none", **values})


def tune(folder: Path, chosen: recipe.Recipe, watch: Watcher | None = None) -> list[object]:
    """Run a fine-tune to its end and return everything it told."""
    from zoo.finetune import begin
    from zoo.finetune.prepare import prepare

    return carried_out(begin.start(prepare(chosen), folder, watch or Watcher()))


def carried_out(job: Job) -> list[object]:
    """Carry a job out and return everything it told its Watcher."""
    from zoo.finetune.job import run

    run(job)
    return job.watch.events


def saved(run: Path) -> dict[str, Tensor]:
    """Return the tensors of a run's model."""
    from zoo import weights

    return weights.read(run / "model.safetensors")


def sha256(path: Path) -> str:
    """Return the digest of a file; given a run, of its model."""
    path = path / "model.safetensors" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest()


def randomise_norms(module: nn.Module) -> None:
    """Give BatchNorm statistics as after training: the initial 0 and 1 hide its mistakes."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(0.0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
