"""The toy X's and O's: drawn the same everywhere, and learned in seconds by three filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Answer, csv_rows
from PIL import Image

from zoo import datasets, network
from zoo.catalog.datasets import XO
from zoo.data import xo
from zoo.run import Run

Here = Callable[..., Answer]

LECTURE_S_X = """
.........
.#.....#.
..#...#..
...#.#...
....#....
...#.#...
..#...#..
.#.....#.
.........
"""


@pytest.fixture(scope="module")
def drawn() -> Path:
    return datasets.locate("xo")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zoo.cli import main

    folder = tmp_path_factory.mktemp("xo") / "run"
    words = ["--lr", "0.02", "--epochs", "6", "--best", "last", "-o", str(folder)]
    assert main(["train", "xo", *words]) == 0
    return folder


def test_the_set_is_whole_and_no_picture_is_there_twice(drawn: Path) -> None:
    files = sorted(drawn.rglob("*.png"))
    assert len(files) == 1600
    contents = set()
    for file in files:
        with Image.open(file) as picture:
            assert picture.size == (9, 9)
            contents.add(picture.tobytes())
    assert len(contents) == 1600
    for part, each in XO.drawn:
        assert {p.name: len([*p.iterdir()]) for p in (drawn / part).iterdir()} == {
            "O": each, "X": each,
        }  # fmt: skip


def test_the_first_x_of_val_is_the_lecture_s(drawn: Path) -> None:
    pixels = np.asarray(Image.open(drawn / "val" / "X" / "0000.png"))
    lines = ["".join(".#"[value // 255] for value in row) for row in pixels]
    assert lines == LECTURE_S_X.split()


def test_a_picture_can_be_drawn_again_alone_and_seeds_differ() -> None:
    first = xo.draw("X", 0, "train", 7).tobytes()
    assert xo.draw("X", 0, "train", 7).tobytes() == first
    others = [("O", 0, "train", 7), ("X", 1, "train", 7), ("X", 0, "val", 7), ("X", 0, "train", 8)]
    assert first not in [xo.draw(*other).tobytes() for other in others]


def test_a_folder_that_lost_a_picture_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    rows = {"xo": replace(XO, drawn=(("train", 5), ("val", 3)))}
    folder = datasets.locate("xo", rows=rows)
    lost = folder / "train" / "O" / "0003.png"
    content = lost.read_bytes()
    lost.unlink()
    assert datasets.locate("xo", rows=rows) == folder
    assert lost.read_bytes() == content


def test_it_is_learned_in_seconds(trained: Path) -> None:
    run = Run.open(trained).finished()
    assert run.record["results"]["accuracy"] > 0.98
    assert Path(run.record["data"]["root"]).name == "xo"


def test_it_names_new_pictures_and_its_exported_file_does_too(
    here: Here, trained: Path, drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    for number in range(20):
        xo.draw("XO"[number % 2], 9, "new", number).save(folder / f"{number:02}.png")
    file = tmp_path / "xo.onnx"
    assert here("export", "onnx", trained, "-o", file).code == 0
    said = []
    for name in (trained, file):
        answer = here("predict", name, folder)
        assert answer.code == 0
        said.append([row["label"] for row in csv_rows(answer.out)])
    assert said[0] == said[1] == ["X", "O"] * 10


def test_the_lecture_s_filters_give_the_lecture_s_numbers(drawn: Path) -> None:
    """The map of the diagonal on the plain X begins with 0.77 -0.11 0.11, as on its slide."""
    net = network.untrained("xo", variant={"initial": "lecture"})
    pixels = np.asarray(Image.open(drawn / "val" / "X" / "0000.png"), np.float32)
    picture = torch.from_numpy(pixels / 127.5 - 1)[None, None]
    first = net.chain[:1](picture)[0, 0].detach()
    assert first[0].tolist() == pytest.approx(
        [7 / 9, -1 / 9, 1 / 9, 3 / 9, 5 / 9, -1 / 9, 3 / 9], abs=1e-6
    )


def test_another_data_set_can_be_given(here: Here, photos: Path) -> None:
    answer = here("train", "xo", photos, "--dry-run")
    assert answer.code == 0, answer.err
    assert "30 train, 6 val" in answer.err
