"""What all tests share: a small folder of photos, the command in and out of process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw
from warm import Warm

from zoo.cli import main

ROOT = Path(__file__).parents[1]
CLASSES = ("disc", "square", "stripes")
EACH = 12


class Answer(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's cache or the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("ZOO_OFFLINE", "1")
        patch.delenv("ZOO_WEIGHTS", raising=False)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads that wait for each other on a busy machine are tenfold slower than one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(os.environ.get("ZOO_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip("needs the shared data: set ZOO_SHARED to its folder")
    return folder


def picture(kind: str, number: int) -> Image.Image:
    """A shape on coloured noise; no two have the same size."""
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
    """root/CLASS/NN.png: the classes of `picture`."""
    for kind in classes:
        (root / kind).mkdir(parents=True)
        for number in range(each):
            picture(kind, number).save(root / kind / f"{number:02}.png")
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 classes of 12 pictures. Shared by all tests: copy it to change it."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def zoo() -> Command:
    """`zoo …` in a process of its own. cwd, input and environment can be given by name."""

    def run(
        *words: object, cwd: Path | None = None, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.run(
            [sys.executable, "-m", "zoo", *map(str, words)],
            cwd=cwd,
            input=stdin,
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=120,
        )

    return run


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """The same in processes that are forked from one that has imported torch."""
    server = Warm()
    yield server
    server.close()


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The same in this process, which is faster."""

    def run(*words: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of LeNet on `photos` that knows its classes apart. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "lenet"
    words = ["--weights", "none", "--no-freeze", "--views", "1", "-o", str(folder)]
    pace = ["--epochs", "60", "--batch-size", "6", "--lr", "0.003"]
    assert main(["finetune", "lenet", str(photos), *words, *pace]) == 0
    return folder


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a file, outside its folder."""
    path = tmp_path_factory.mktemp("exported") / "lenet.onnx"
    assert main(["export", "onnx", str(run), "-o", str(path)]) == 0
    return path
