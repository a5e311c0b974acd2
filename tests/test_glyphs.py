"""The demo's drawn data: legible, repeatable, and honestly split by typeface."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import glyphs
from zoo.data.glyphs import LETTERS, TEST_TYPEFACES, TRAIN_TYPEFACES
from zoo.errors import DataError

ALL = TRAIN_TYPEFACES + TEST_TYPEFACES


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_picture_can_be_drawn_again_alone() -> None:
    first = glyphs.draw("7", TEST_TYPEFACES[0], seed=3, number=5)
    for other in range(4):
        glyphs.draw("7", TEST_TYPEFACES[0], seed=3, number=other)
    assert glyphs.draw("7", TEST_TYPEFACES[0], seed=3, number=5).tobytes() == first.tobytes()


def test_each_part_of_the_key_changes_the_picture() -> None:
    pictures = {
        glyphs.draw(character, typeface, seed, number).tobytes()
        for character in "0O"
        for typeface in ALL[:2]
        for seed in (0, 1)
        for number in (0, 1)
    }
    assert len(pictures) == 16


@pytest.mark.parametrize("size", [28, 32, 64])
def test_pictures_are_grey_and_of_the_size_asked(size: int) -> None:
    picture = glyphs.draw("R", TRAIN_TYPEFACES[3], 0, 0, size)
    assert (picture.mode, picture.size) == ("L", (size, size))
    pixels = np.asarray(picture)
    middle = pixels[size // 4 : -size // 4, size // 4 : -size // 4]
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert middle.mean() > border.mean() + 10  # light ink on a dark ground


def test_training_never_sees_a_family_that_is_tested_on() -> None:
    assert len(set(ALL)) == len(ALL)
    family = re.compile("DejaVu|STIX|cm")
    families = [
        {family.findall(name)[0] for name in some} for some in (TRAIN_TYPEFACES, TEST_TYPEFACES)
    ]
    assert families == [{"DejaVu", "STIX"}, {"cm"}]


def pages(letters: str, typefaces: Sequence[str]) -> np.ndarray:
    """Typefaces x letters x the ink of a glyph."""
    return np.array(
        [[np.asarray(glyphs._glyph(c, name, 0), float).ravel() for c in letters]
         for name in typefaces]
    )  # fmt: skip


def must_differ(group: np.ndarray) -> None:
    """Each two share less than nine tenths of their ink."""
    for index, one in enumerate(group):
        others = np.delete(group, index, axis=0)
        apart = np.abs(one - others).sum(-1) / np.maximum(one, others).sum(-1)
        assert apart.min() > 0.1


def test_letters_of_a_typeface_and_typefaces_of_a_few_letters_are_distinguishable() -> None:
    must_differ(pages(LETTERS, TEST_TYPEFACES[:1])[0])
    must_differ(pages("A0Q", ALL).reshape(len(ALL), -1))


@pytest.mark.slow
def test_letters_are_distinguishable() -> None:
    every = pages(LETTERS, ALL)
    for group in (*every, every.reshape(len(ALL), -1)):
        must_differ(group)


def test_a_typeface_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="no typeface Garamond"):
        glyphs.draw("A", "Garamond", 0, 0)


def test_write_split(tmp_path: Path) -> None:
    counts = glyphs.write_split(tmp_path / "a", "07Q", {"train": 14, "val": 5}, seed=1)
    assert counts == {"train": 42, "val": 15}
    written = files(tmp_path / "a")
    assert len(written) == 57
    assert {name.split("/")[0] for name in written} == {"train", "val"}
    assert {name.split("/")[1] for name in written} == {"0", "7", "Q"}
    for split, typefaces in (("train", TRAIN_TYPEFACES), ("val", TEST_TYPEFACES)):
        seen = {Path(name).stem.split("-", 1)[1] for name in written if name.startswith(split)}
        assert seen == set(typefaces)
    with Image.open(tmp_path / "a/val/Q/0002-cmtt10.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (32, 32))
        again = glyphs.draw("Q", TEST_TYPEFACES[2], seed=1, number=2)
        assert picture.tobytes() == again.tobytes()

    glyphs.write_split(tmp_path / "same", "07Q", {"train": 14, "val": 5}, seed=1)
    assert files(tmp_path / "same") == written
    glyphs.write_split(tmp_path / "other", "07Q", {"train": 14, "val": 5}, seed=2)
    assert not set(files(tmp_path / "other").values()) & set(written.values())


def test_one_number_per_class_gives_val_a_quarter(tmp_path: Path) -> None:
    assert glyphs.write_split(tmp_path / "a", "AB", 8, seed=0) == {"train": 16, "val": 4}


def test_a_split_is_never_written_over_another(tmp_path: Path) -> None:
    glyphs.write_split(tmp_path, "A", 4, seed=0)
    before = files(tmp_path)
    with pytest.raises(DataError, match="train"):
        glyphs.write_split(tmp_path, "B", 4, seed=0)
    assert files(tmp_path) == before


def test_a_failure_leaves_nothing_half_written(tmp_path: Path, monkeypatch) -> None:
    drawn = glyphs.draw

    def failing(character: str, *rest: object) -> Image.Image:
        if character == "B":
            raise KeyError(character)
        return drawn(character, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(glyphs, "draw", failing)
    with pytest.raises(KeyError):
        glyphs.write_split(tmp_path, "AB", 4, seed=0)
    assert files(tmp_path) == {}


def test_unlabelled_names_do_not_leak(tmp_path: Path) -> None:
    truth = glyphs.write_unlabelled(tmp_path / "new", "ABC", 60, seed=4)
    written = files(tmp_path / "new")
    assert sorted(truth) == sorted(written) == [f"{index:04d}.png" for index in range(60)]
    labels = [truth[name] for name in sorted(truth)]
    assert sorted(labels) == sorted("ABC" * 20)
    assert labels not in (sorted(labels), list("ABC" * 20))
    assert len(set(written.values())) == 60

    assert glyphs.write_unlabelled(tmp_path / "again", "ABC", 60, seed=4) == truth
    assert files(tmp_path / "again") == written
    glyphs.write_split(tmp_path / "split", "ABC", {"train": 1, "val": 20}, seed=4)
    assert not set(files(tmp_path / "split").values()) & set(written.values())
