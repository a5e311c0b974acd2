"""Photos inside of Parquet, in the layout of Hugging Face's data sets: whole, hostile, lying."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from kit import CLASSES, Here, csv_rows, encoded, picture
from kit.data import touch, write_parquet
from PIL import Image
from pyarrow import parquet

from zoo import extras
from zoo.data.decode import MAX_BYTES, decode, read_bytes
from zoo.data.index import labelled, scan
from zoo.errors import DataError, ImageError, MissingPackage
from zoo.features.digests import contents
from zoo.finetune.choices import epoch_kept
from zoo.recipe import Recipe

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"


def shapes(each: int, start: int = 0) -> tuple[list[bytes], list[int]]:
    """PNGs of the pictures of all classes in turn, and the numbers of their classes."""
    rows = [(number, kind) for number in range(start, start + each) for kind in CLASSES]
    cells = [encoded(picture(kind, number)) for number, kind in rows]
    return cells, [CLASSES.index(kind) for _, kind in rows]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `datasets` has it: two files of train, one of validation."""
    root = tmp_path_factory.mktemp("hub") / "shapes"
    write_parquet(root / "train-00000-of-00002.parquet", *shapes(5), CLASSES)
    write_parquet(root / "train-00001-of-00002.parquet", *shapes(4, 5), CLASSES)
    write_parquet(root / "validation-00000-of-00001.parquet", *shapes(3, 9), CLASSES)
    return root


def test_files_are_parts_and_numbers_have_the_names_of_the_schema(data: Path) -> None:
    index = scan(data)
    assert index.classes == CLASSES
    assert (index.counts("train"), index.counts("val")) == ([9] * 3, [3] * 3)
    assert index.samples[15].path == "train-00001-of-00002.parquet#0"
    assert index.skipped == index.notes == ()
    assert not index.val_is_test
    for sample in index.samples:
        number = int(sample.path.rpartition("#")[2]) // 3
        number += {"train-00000": 0, "train-00001": 5, "validation-": 9}[sample.path[:11]]
        expected = np.asarray(picture(index.classes[sample.label], number))
        assert np.array_equal(np.asarray(decode(read_bytes(data / sample.path))), expected)


def test_a_test_file_is_val_without_another_and_for_the_end_beside_one(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", *shapes(4), CLASSES)
    write_parquet(tmp_path / "test-0.parquet", *shapes(2, 4), CLASSES)
    index = scan(tmp_path)
    assert index.val_is_test
    recipe = Recipe(model="lenet", data=str(tmp_path), task="classify")
    assert epoch_kept(recipe, index)[0] == "last"  # none is chosen by the photos it is measured on
    assert set(labelled(tmp_path)) == {"train", "test"}
    write_parquet(tmp_path / "val-0.parquet", *shapes(1, 6), CLASSES)
    index = scan(tmp_path)
    assert [len(index.of(part)) for part in ("train", "val", "test")] == [12, 3, 6]
    assert epoch_kept(recipe, index)[0] == "accuracy"


def test_one_file_with_names_is_split(tmp_path: Path) -> None:
    cells, numbers = shapes(5)
    path = write_parquet(tmp_path / "all.parquet", cells, [CLASSES[k] for k in numbers])
    index = scan(path)
    assert (index.root, index.source) == (tmp_path, path)
    assert (index.counts("train"), index.counts("val")) == ([4] * 3, [1] * 3)
    assert scan(tmp_path).samples == index.samples
    assert {label for _, label in labelled(path)[""]} == set(CLASSES)


def test_numbers_without_names_are_classes_and_rows_without_a_label_are_left_out(
    tmp_path: Path,
) -> None:
    path = write_parquet(tmp_path / "a.parquet", shapes(4)[0], [10, 2] * 5 + [None, 2])
    index = scan(path)
    assert index.classes == ("2", "10")
    assert index.skipped == (("a.parquet#10", "has no label"),)
    path = write_parquet(tmp_path / "b.parquet", shapes(1)[0], [-1, -1, -1], CLASSES)
    with pytest.raises(DataError, match="has no labels"):
        scan(path)
    path = write_parquet(tmp_path / "c.parquet", shapes(1)[0], [0, 1, 3], CLASSES)
    with pytest.raises(DataError, match="label 3, and the schema names 3 classes"):
        scan(path)


def test_copies_are_known_by_their_bytes(tmp_path: Path) -> None:
    cells, numbers = shapes(3)
    path = write_parquet(
        tmp_path / "a.parquet", [*cells, cells[0]], [*numbers, numbers[0]], CLASSES
    )
    found = contents(scan(path))
    assert found["a.parquet#0"] == found["a.parquet#9"]
    assert len(set(found.values())) == 9


def bomb(side: int) -> bytes:
    """A PNG that says that it has so many pixels, and has one."""
    small = encoded(Image.new("1", (1, 1)))
    head = b"IHDR" + struct.pack(">II", side, side) + small[24:29]
    return small[:12] + head + struct.pack(">I", zlib.crc32(head)) + small[33:]


HOSTILE: dict[str, tuple[bytes | None, str]] = {
    "nothing": (None, "no bytes of a picture"),
    "empty": (b"", "the cell is empty"),
    "no picture": (b"#!/bin/sh\ntouch x\n", ""),
    "cut off": (encoded(Image.new("RGB", (300, 300), "red"), "JPEG")[:400], ""),
    "HEIC": (HEIC, "HEIC"),
    "a bomb": (bomb(30_000), ""),
    "IDX": (b"\0\0\x08\x03" + bytes(12), ""),
    "Parquet": (b"PAR1" + bytes(12), ""),
}


def test_hostile_bytes_in_a_cell_are_error_rows(here: Here, run: Path, tmp_path: Path) -> None:
    cells, numbers = shapes(1)
    rotten = [cell for cell, _ in HOSTILE.values()]
    path = write_parquet(
        tmp_path / "a.parquet", [*cells, *rotten], [*numbers, *[0] * len(rotten)], CLASSES
    )
    answer = here("predict", run, path)
    rows = csv_rows(answer.out)
    assert [row["path"] for row in rows] == [f"{path}#{n}" for n in range(3 + len(rotten))]
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["error"] * len(rotten)
    for row, (_, why) in zip(rows[3:], HOSTILE.values(), strict=True):
        assert why in row["error"]
    assert "Traceback" not in answer.err


@pytest.mark.slow
def test_a_cell_has_the_limit_of_a_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [bytes(MAX_BYTES + 1)], ["a"])
    with pytest.raises(ImageError, match="MB is more than"):
        read_bytes(f"{path}#0")
    for number in ("1", "-1", "x", "01"):
        with pytest.raises(ImageError, match=r"no picture #1.*end at #0|No such file"):
            read_bytes(f"{path}#{number}")


def lies(whole: bytes) -> dict[str, bytes]:
    return {
        "only its first bytes": b"PAR1",
        "cut off": whole[:-100],
        "no end": whole[:-8],
        "another length of its end": whole[:-8] + b"\xff\xff\xff\x7fPAR1",
        "bytes changed": whole[:20] + bytes(400) + whole[420:],
    }


@pytest.mark.parametrize("name", lies(b""))
def test_a_damaged_file_is_an_error_in_three_beats(
    here: Here, run: Path, tmp_path: Path, name: str
) -> None:
    cells, numbers = shapes(3)
    path = write_parquet(tmp_path / "a.parquet", cells, numbers, CLASSES)
    path.write_bytes(lies(path.read_bytes())[name])
    for words in (["finetune", "lenet", path, "-o", tmp_path / "run"], ["predict", run, path]):
        answer = here(*words, *(["--weights", "none"] if words[0] == "finetune" else []))
        assert answer.code in (0, 2, 4), answer.err
        assert "Traceback" not in answer.err
        assert "a fault of zoo" not in answer.err
        if words[0] == "finetune" and name != "bytes changed":
            assert str(path) in answer.err
            assert "hint: " in answer.err


def test_parquet_that_is_a_manifest_stays_one(tmp_path: Path) -> None:
    paths = [f"{number}.jpg" for number in range(8)]
    touch(tmp_path, *paths)
    table = pyarrow.table({"path": paths, "label": ["a", "b"] * 4})
    parquet.write_table(table, tmp_path / "m.parquet")
    assert scan(tmp_path / "m.parquet").containers == ()
    with pytest.raises(DataError, match="class folders"):
        scan(tmp_path)


def test_without_pyarrow_it_says_what_to_install(
    data: Path, here: Here, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train-0.parquet"
    shutil.copy(data / "train-00000-of-00002.parquet", path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackage, match="needs pyarrow, which is not installed") as error:
        scan(tmp_path)
    assert extras.install("parquet") in error.value.hint
    answer = here("predict", run, path)
    assert answer.code == 2
    assert "train-0.parquet needs pyarrow, which is not installed" in answer.err


def test_metadata_that_are_no_json_name_no_classes(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", *shapes(4), CLASSES)
    table = parquet.read_table(path)
    for wrong in (b"{", b"[" * 100_000, b"[1]", json.dumps({"info": {"features": 3}}).encode()):
        parquet.write_table(table.replace_schema_metadata({"huggingface": wrong}), path)
        assert scan(path).classes == ("0", "1", "2")


def test_a_run_on_parquet_is_trained_evaluated_and_predicts(
    here: Here, tmp_path: Path, data: Path
) -> None:
    run = tmp_path / "run"
    words = ["--weights", "none", "--no-freeze", "--epochs", 1, "-o", run]
    answer = here("finetune", "lenet", data, *words)
    assert answer.code == 0, answer.err
    answer = here("evaluate", run, "--data", data, "--part", "val", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["photos"] == 9
    assert len(csv_rows(here("predict", run, data).out)) == 36
