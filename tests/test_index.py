"""DatasetIndex: real folders in every shape that people have, and the user's data untouched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from kit import CLASSES, write_photos
from kit.data import labels, many, splits, touch, tree

from zoo.data import folders
from zoo.data.index import scan
from zoo.errors import DataError


def test_class_folders_are_the_classes(photos: Path) -> None:
    index = scan(photos)
    assert index.classes == CLASSES
    assert len(index.samples) == 36
    assert index.skipped == index.notes == ()
    assert all(index.classes[s.label] == s.path.split("/")[0] for s in index.samples)
    assert all(s.bytes == (photos / s.path).stat().st_size for s in index.samples)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_train_and_val_folders_are_the_split(tmp_path: Path, val: str) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", f"{val}/a/3.jpg", f"{val}/b/4.jpg")
    index = scan(tmp_path)
    assert labels(index, "train") == {"train/a/1.jpg": "a", "train/b/2.jpg": "b"}
    assert labels(index, "val") == {f"{val}/a/3.jpg": "a", f"{val}/b/4.jpg": "b"}
    assert index.skipped == ()


def test_train_without_val_is_split(tmp_path: Path) -> None:
    index = scan(many(tmp_path / "train", count=10).parent)
    assert index.classes == ("a", "b")
    assert index.counts("train") == [8, 8]
    assert index.counts("val") == [2, 2]


def test_other_parts_are_left_out_and_said(tmp_path: Path) -> None:
    many(tmp_path / "train")
    many(tmp_path / "val")
    many(tmp_path / "extra")
    touch(tmp_path, "test/1.jpg")  # of which nobody says what they are
    index = scan(tmp_path)
    assert dict(index.skipped) == {
        "extra": "beside train and val",
        "test": "a test part without class folders: there is nothing to measure on",
    }
    assert not index.of("test")


@pytest.mark.parametrize("val", [True, False])
def test_a_test_part_is_a_part_of_its_own(tmp_path: Path, val: bool) -> None:
    """It is neither trained on nor validated on; a share of train is put aside without val."""
    many(tmp_path / "train", ("a", "b", "c"))
    many(tmp_path / "test", ("a", "b", "odd"), 4)
    if val:
        many(tmp_path / "valid", ("a", "b", "c"), 3)
    index = scan(tmp_path)
    assert index.counts("test") == [4, 4, 0]
    assert all(s.path.startswith("test/") == (s.split == "test") for s in index.samples)
    assert index.counts("val") == ([3, 3, 3] if val else [2, 2, 2])
    assert index.drawn is not val
    assert [path for path, _ in index.skipped] == [f"test/odd/{n}.jpg" for n in range(4)]
    assert "the test part has a class that train has not: odd; not measured (4 photos)" in (
        index.notes
    )
    assert "no test photo of: c" in index.notes


def test_pictures_without_labels_have_a_test_part_too(tmp_path: Path) -> None:
    many(tmp_path / "train", ("a",))
    touch(tmp_path, *(f"test/{n}.jpg" for n in range(3)))
    index = scan(tmp_path, task="reconstruct")
    assert (index.counts("train"), index.counts("val"), index.counts("test")) == ([8], [2], [3])


def test_what_is_no_photo_is_skipped_with_its_reason(tmp_path: Path) -> None:
    many(tmp_path)
    touch(
        tmp_path, ".cache/1.jpg", "notes.txt", "stray.jpg", "a/.hidden.jpg", "a/.git/2.jpg",
        "a/notes.txt", "b/Thumbs.db", "texts/one.txt",
    )  # fmt: skip
    (tmp_path / "empty").mkdir()
    index = scan(tmp_path)
    assert index.classes == ("a", "b")
    assert len(index.samples) == 20
    assert dict(index.skipped) == {
        ".cache": "name begins with a dot",
        "notes.txt": "not in a class folder",
        "stray.jpg": "not in a class folder",
        "a/.hidden.jpg": "name begins with a dot",
        "a/.git": "name begins with a dot",
        "a/notes.txt": "not a picture",
        "b/Thumbs.db": "not a picture",
        "texts/one.txt": "not a picture",
        "texts": "folder without photos",
        "empty": "folder without photos",
    }


def test_photos_below_a_class_folder_are_of_that_class(tmp_path: Path) -> None:
    touch(many(tmp_path), "a/2024/may/x.jpg")
    assert labels(scan(tmp_path, val_fraction=0.01), "train")["a/2024/may/x.jpg"] == "a"


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    index = scan(many(tmp_path, ("bus", "car", "train")))
    assert index.classes == ("bus", "car", "train")
    assert len(index.samples) == 30


def test_val_is_matched_by_name_not_by_position(tmp_path: Path) -> None:
    """`10` sorts before `2`, and val has no `10`: its `2` stands first in its own listing."""
    touch(tmp_path, "train/1/a.jpg", "train/10/b.jpg", "train/2/c.jpg", "val/2/d.jpg")
    index = scan(tmp_path)
    assert index.classes == ("1", "10", "2")
    assert labels(index, "val") == {"val/2/d.jpg": "2"}
    assert index.counts("val") == [0, 0, 1]


def test_val_class_that_train_has_not_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    touch(tmp_path, "train/cats/1.jpg", "train/dogs/2.jpg", "val/cat/3.jpg", "val/dogs/4.jpg")
    with pytest.raises(DataError, match="class that train has not: cat") as error:
        scan(tmp_path)
    assert "did you mean cats" in error.value.hint


def test_class_folders_that_are_deeper_are_pointed_to(tmp_path: Path) -> None:
    """As in an archive that was unpacked into a folder of its name, or of `val` alone."""
    for name, parts in (
        ("one", ("pets",)),
        ("two", ("pets/train", "pets/val")),
        ("alone", ("val",)),
    ):
        files = [f"{part}/{animal}/1.jpg" for part in parts for animal in ("cat", "dog")]
        root = touch(tmp_path / name, *files)
        with pytest.raises(DataError, match="only one class") as error:
            scan(root)
        assert f"folders below {root / parts[0].partition('/')[0]}: give that" in error.value.hint


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ((), "no class folders with photos"),
        (("1.jpg", "2.jpg"), "no class folders with photos"),
        (("a/1.jpg",), r"only one class \('a'\)"),
        (("a/1.jpg", "b/notes.txt"), r"only one class \('a'\)"),
        (("train/a/1.jpg", "val/a/1.jpg"), r"only one class \('a'\)"),
        (("Cat/1.jpg", "cat/2.jpg", "dog/3.jpg"), "upper and lower case only: Cat, cat"),
        (("a/1.jpg", "b/2.jpg"), "every class has one photo only"),
        (("train/a/1.jpg", "train/b/1.jpg", "val/a/x.txt"), "has no photos"),
    ],
)
def test_folder_that_cannot_be_learned_from_is_an_error(
    tmp_path: Path, files: tuple[str, ...], what: str
) -> None:
    with pytest.raises(DataError, match=what) as error:
        scan(touch(tmp_path, *files))
    assert error.value.hint
    assert str(tmp_path) in error.value.what or "class" in error.value.what


def test_missing_folder_and_a_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        scan(tmp_path / "missing")
    with pytest.raises(DataError, match="is not a folder"):
        scan(touch(tmp_path, "file.jpg") / "file.jpg")


def test_class_with_one_photo_keeps_it_for_training_and_is_said(tmp_path: Path) -> None:
    index = scan(touch(many(tmp_path), "rare/1.jpg"))
    assert labels(index, "train")["rare/1.jpg"] == "rare"
    assert index.counts("val") == [2, 2, 0]
    assert index.notes == ("one photo only, so none for validation: rare",)


def test_split_is_stratified_and_a_function_of_the_seed(tmp_path: Path) -> None:
    touch(many(tmp_path, count=20), *(f"c/{n}.jpg" for n in range(5)))
    first = scan(tmp_path, seed=1)
    assert first.counts("val") == [4, 4, 1]
    assert splits(first) == splits(scan(tmp_path, seed=1))
    assert splits(first) != splits(scan(tmp_path, seed=2))
    assert first.fingerprint != scan(tmp_path, seed=2).fingerprint
    assert scan(tmp_path, val_fraction=0.5).counts("val") == [10, 10, 2]


def test_split_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    many(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = scan(tmp_path / "here"), scan(tmp_path / "there")
    assert splits(here) == splits(there)
    assert here.fingerprint == there.fingerprint


def test_few_photos_change_sides_when_photos_are_added(tmp_path: Path) -> None:
    before = splits(scan(many(tmp_path, count=100)))
    touch(tmp_path, *(f"a/new{n}.jpg" for n in range(10)))
    after = splits(scan(tmp_path))
    moved = [path for path in before if before[path] != after[path]]
    assert len(moved) <= 10
    assert all(path.startswith("a/") for path in moved)


def test_fingerprint_follows_the_photos(tmp_path: Path) -> None:
    many(tmp_path)
    prints = {scan(tmp_path).fingerprint}
    (tmp_path / "a/0.jpg").write_bytes(b"longer")
    prints.add(scan(tmp_path).fingerprint)
    touch(tmp_path, "a/new.jpg")
    prints.add(scan(tmp_path).fingerprint)
    (tmp_path / "a").rename(tmp_path / "c")
    prints.add(scan(tmp_path).fingerprint)
    assert len(prints) == 4


def test_nothing_is_written_into_the_data(tmp_path: Path) -> None:
    write_photos(tmp_path, each=3)
    before = tree(tmp_path)
    scan(tmp_path)
    assert tree(tmp_path) == before


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = many(tmp_path / "photos"), touch(tmp_path / "more", "x.jpg")
    (root / "a" / "more").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "same").symlink_to(root / "b")
    index = scan(root)
    assert "a/more/x.jpg" in splits(index)
    skipped = dict(index.skipped)
    assert skipped["b/same"] == "a link back to a folder above"
    assert len(index.samples) < 60


def test_links_to_nothing_and_to_themselves_are_skipped(tmp_path: Path) -> None:
    many(tmp_path)
    (tmp_path / "a" / "dead.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "a" / "self.jpg").symlink_to(tmp_path / "a" / "self.jpg")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    index = scan(tmp_path)
    assert len(index.samples) == 20
    assert {"a/dead.jpg", "a/self.jpg", "self"} <= dict(index.skipped).keys()


def test_pipe_in_a_class_folder_is_skipped(tmp_path: Path) -> None:
    os.mkfifo(many(tmp_path) / "a" / "pipe.jpg")
    assert dict(scan(tmp_path).skipped) == {"a/pipe.jpg": "not a regular file"}


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    many(tmp_path)
    odd = os.fsencode(tmp_path / "a") + b"/caf\xe9.jpg"
    with open(odd, "wb") as file:
        file.write(b"x")
    index = scan(tmp_path)
    (path,) = [sample.path for sample in index.samples if "caf" in sample.path]
    assert os.fsencode(tmp_path / path) == odd
    assert len(index.fingerprint) == 64


def test_unreadable_photos_leave_the_index_and_are_listed(tmp_path: Path) -> None:
    index = scan(many(tmp_path))
    path = index.of("train")[0].path
    smaller = index.without({path: "truncated"})
    assert len(smaller.samples) == 19
    assert smaller.skipped == ((path, "truncated"),)


def test_no_readable_photo_of_a_class_or_at_all_is_an_error(tmp_path: Path) -> None:
    index = scan(many(tmp_path))
    with pytest.raises(DataError, match="no photo of class 'a' for training"):
        index.without({s.path: "bad" for s in index.of("train") if s.label == 0})
    with pytest.raises(DataError, match="none of the 20 photos"):
        index.without({s.path: "bad" for s in index.samples})


def test_real_photos_have_the_counts_they_are_known_for(shared: Path) -> None:
    """hymenoptera has a GIF placeholder among its JPEGs and a `.jpeg`; both are photos."""
    index = scan(shared / "data" / "hymenoptera")
    assert index.classes == ("ants", "bees")
    assert (len(index.of("train")), len(index.of("val"))) == (245, 153)
    index = scan(shared / "data" / "clothing10")
    assert (len(index.classes), len(index.of("train")), len(index.of("val"))) == (10, 400, 120)


@pytest.mark.parametrize(("train", "val"), [("Train", "Val"), ("TRAIN", "validation")])
def test_parts_are_known_in_upper_case(tmp_path: Path, photos: Path, train: str, val: str) -> None:
    shutil.copytree(photos, tmp_path / "data" / train)
    shutil.copytree(photos, tmp_path / "data" / val)
    index = scan(tmp_path / "data")
    assert index.classes == scan(photos).classes
    assert len(index.of("train")) == len(index.of("val"))


def test_a_class_without_validation_photos_is_noted(tmp_path: Path, photos: Path) -> None:
    shutil.copytree(photos, tmp_path / "data" / "train")
    shutil.copytree(photos, tmp_path / "data" / "val")
    gone = scan(photos).classes[0]
    shutil.rmtree(tmp_path / "data" / "val" / gone)
    assert f"no validation photo of: {gone}" in scan(tmp_path / "data").notes


def test_a_class_name_that_is_not_utf8_is_refused(tmp_path: Path, photos: Path) -> None:
    shutil.copytree(photos, tmp_path / "data")
    first = tmp_path / "data" / scan(photos).classes[0]
    os.rename(os.fsencode(first), os.fsencode(tmp_path / "data") + b"/an\xff,ts")
    with pytest.raises(DataError, match="UTF-8"):
        scan(tmp_path / "data")


def test_a_folder_that_is_gone_is_not_called_a_matter_of_permissions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be listed") as refused:
        folders.scan_pictures(tmp_path / "nowhere")
    assert "that is there" in refused.value.hint
