"""The demo's drawn data: legible, repeatable, and honestly split by typeface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import glyphs
from zoo.data.glyph_table import GLYPHS
from zoo.data.glyphs import DIGITS, LETTERS, TEST_TYPEFACES, TRAIN_TYPEFACES
from zoo.errors import DataError

ALL = TRAIN_TYPEFACES + TEST_TYPEFACES


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unlike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Ink in one but not in both, as a share of all ink of the two: 0 equal, 1 disjoint."""
    return np.abs(one - other).sum(-1) / np.maximum(one, other).sum(-1)


def masks(typeface: glyphs.Typeface) -> np.ndarray:
    """Clean glyphs, one row of pixels each: 36 x 1024."""
    drawn = [np.asarray(glyphs.clean(c, typeface)).ravel() for c in DIGITS + LETTERS]
    return np.array(drawn, dtype=np.float32)


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


def test_training_never_sees_a_test_typeface() -> None:
    assert len({typeface.name for typeface in ALL}) == len(ALL)
    assert not set(TRAIN_TYPEFACES) & set(TEST_TYPEFACES)
    for typeface in ALL:
        assert set(typeface.forms) <= set(GLYPHS), typeface.name
        characters = [form.split()[0] for form in typeface.forms]
        assert len(characters) == len(set(characters)), typeface.name


def test_characters_and_typefaces_are_distinguishable() -> None:
    drawn = np.array([masks(typeface) for typeface in ALL])  # typefaces x 36 x pixels
    for typeface, glyphs_of_one in zip(ALL, drawn, strict=True):
        for index, one in enumerate(glyphs_of_one):
            difference = unlike(one, np.delete(glyphs_of_one, index, axis=0)).min()
            assert difference > 0.12, (typeface.name, (DIGITS + LETTERS)[index], difference)
    pages = drawn.reshape(len(ALL), -1)
    for index, page in enumerate(pages):
        difference = unlike(page, np.delete(pages, index, axis=0)).min()
        assert difference > 0.2, (ALL[index].name, difference)


def test_write_split(tmp_path: Path) -> None:
    counts = glyphs.write_split(tmp_path / "a", "07Q", {"train": 14, "val": 5}, seed=1)
    assert counts == {"train": 42, "val": 15}
    written = files(tmp_path / "a")
    assert len(written) == 57
    assert {name.split("/")[0] for name in written} == {"train", "val"}
    assert {name.split("/")[1] for name in written} == {"0", "7", "Q"}
    for split, typefaces in (("train", TRAIN_TYPEFACES), ("val", TEST_TYPEFACES)):
        seen = {Path(name).stem.split("-", 1)[1] for name in written if name.startswith(split)}
        assert seen == {typeface.name for typeface in typefaces}
    with Image.open(tmp_path / "a/val/Q/0002-outline.png") as picture:
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


def test_a_failure_leaves_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        glyphs.write_split(tmp_path, "A?", 4, seed=0)
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


def test_sheet() -> None:
    assert glyphs.sheet("AB", ALL[:3], size=16).size == (32, 48)
    one, other = (glyphs.sheet("AB", ALL[:3], seed=seed) for seed in (1, 2))
    assert one.size == other.size == (64, 96)
    assert one.tobytes() != other.tobytes()
