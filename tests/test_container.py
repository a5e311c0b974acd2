"""Pictures in containers: IDX whole, damaged and lying."""

from __future__ import annotations

import csv
import gzip
import io
import os
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kit import Answer
from kit.data import grey, idx, in_turn, write_idx, write_parquet
from PIL import Image

from zoo.data import container
from zoo.data.decode import decode, read_bytes
from zoo.data.index import scan
from zoo.errors import DataError, ImageError

Here = Callable[..., Answer]


# One picture


@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_picture_has_an_address_and_its_own_pixels(tmp_path: Path, end: str) -> None:
    write_idx(tmp_path, "train", end=end)
    for number in (0, 7, 11):
        data = read_bytes(tmp_path / f"train-images-idx3-ubyte{end}#{number}")
        image = decode(data, "L")
        assert image.size == (5, 6)
        assert np.array_equal(np.asarray(image), grey(seed=5)[number])


def test_a_picture_in_colour(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 7, 3), dtype=np.uint8)
    (tmp_path / "colour").write_bytes(idx(pixels))
    assert np.array_equal(np.asarray(decode(read_bytes(f"{tmp_path}/colour#2"))), pixels[2])
    (tmp_path / "one-channel").write_bytes(idx(pixels[..., :1]))
    image = Image.open(io.BytesIO(read_bytes(f"{tmp_path}/one-channel#2")))
    assert image.mode == "L"


def test_a_file_that_has_such_a_name_itself_comes_first(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", end="")
    literal = tmp_path / "train-images-idx3-ubyte#3"
    literal.write_bytes(b"its own")
    assert read_bytes(literal) == b"its own"
    literal.unlink()
    assert read_bytes(literal).startswith(b"P5\n5 6\n255\n")


@pytest.mark.parametrize("number", ["12", "99999", "-1", "x", "", "01", "1.0", "9" * 30, "١"])
def test_what_is_no_number_of_a_picture_is_an_error(tmp_path: Path, number: str) -> None:
    write_idx(tmp_path, "train")
    with pytest.raises(ImageError, match=r"no picture #\d+.*end at #11|No such file"):
        read_bytes(f"{tmp_path}/train-images-idx3-ubyte.gz#{number}")


def test_an_address_in_what_is_no_container_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    for name in ("photo.jpg#0", "gone#0", "#0", f"{tmp_path.name}#0"):
        with pytest.raises(ImageError, match="No such file"):
            read_bytes(tmp_path / name)


def test_a_whole_container_is_no_picture_and_says_how_to_name_one(tmp_path: Path) -> None:
    write_idx(tmp_path, "train")
    write_parquet(tmp_path / "a.parquet", [b"x", b"y"], ["a", "b"])
    for name in ("train-images-idx3-ubyte.gz", "a.parquet"):
        with pytest.raises(ImageError, match="pictures in one file: name one"):
            read_bytes(tmp_path / name)


# Files that lie


def lies() -> dict[str, bytes]:
    whole, packed = idx(grey()), gzip.compress(idx(grey()), mtime=0)
    bomb = gzip.compress(bytes(3_000_000))
    return {
        "empty": b"",
        "cut in the header": whole[:9],
        "cut in the pixels": whole[:-1],
        "one byte more": whole + b"x",
        "packed, cut": packed[:-20],
        "packed, no checksum": packed[:-8],
        "packed, wrong checksum": packed[:-8] + b"12345678",
        "packed, pixels cut": gzip.compress(whole[:-1]),
        "packed, one byte more": gzip.compress(whole + b"x"),
        "packed, rubbish after it": packed + b"rubbish",
        "bytes changed": packed[:60] + bytes(20) + packed[80:],
        "no pictures": struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28),
        "no width": struct.pack(">4B3I", 0, 0, 8, 3, 10, 28, 0),
        "huge": struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        "1 GB promised, nothing there": gzip.compress(
            struct.pack(">4B3I", 0, 0, 8, 3, 1000, 1000, 1000)
        ),
        "a bomb behind the pixels": gzip.compress(whole) + bomb,
        "signed bytes": idx(grey(), 0x09),
        "floats": idx(grey().astype(">f4"), 0x0D),
        "labels": idx(in_turn()),
        "2 dimensions": idx(grey()[0]),
        "2 channels": idx(np.zeros((2, 3, 4, 2), np.uint8)),
        "a web page": b"<html>not found</html>",
        "a packed web page": gzip.compress(b"<html>not found</html>"),
    }


@pytest.mark.parametrize("name", lies())
def test_a_damaged_file_is_an_error_in_three_beats(tmp_path: Path, name: str) -> None:
    write_idx(tmp_path, "train")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(lies()[name])
    began = time.process_time()
    with pytest.raises(DataError) as error:
        scan(tmp_path)
    assert str(path) in error.value.what
    assert error.value.hint
    with pytest.raises(ImageError):
        read_bytes(f"{path}#0")
    assert time.process_time() - began < 2  # 0.05 here


def test_a_gzip_in_two_parts_is_read_as_one(tmp_path: Path) -> None:
    whole = idx(grey())
    (tmp_path / "two.gz").write_bytes(gzip.compress(whole[:100]) + gzip.compress(whole[100:]))
    assert len(container.load(tmp_path / "two.gz")) == 12


def test_pictures_without_their_labels_are_an_error(tmp_path: Path) -> None:
    write_idx(tmp_path, "train")
    other = tmp_path / "train-labels-idx1-ubyte.gz"
    other.write_bytes(gzip.compress(idx(in_turn(11))))
    with pytest.raises(DataError, match=r"has 12 pictures.* 11 labels"):
        scan(tmp_path)
    other.write_bytes((tmp_path / "train-images-idx3-ubyte.gz").read_bytes())
    with pytest.raises(DataError, match="has 3 dimensions") as error:
        scan(tmp_path)
    assert "exchanged" in error.value.hint
    other.unlink()
    with pytest.raises(DataError, match="no labels beside it"):
        scan(tmp_path)


def test_a_test_part_alone_is_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures to train on") as error:
        scan(write_idx(tmp_path, "t10k"))
    assert "train-images-idx3-ubyte" in error.value.hint


# The index


def test_the_parts_of_mnist_are_train_and_val(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 12)
    write_idx(tmp_path, "t10k", 6)
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    index = scan(tmp_path)
    assert index.classes == ("0", "1", "2")
    assert (index.counts("train"), index.counts("val")) == ([4, 4, 4], [2, 2, 2])
    assert index.samples[7].path == "train-images-idx3-ubyte.gz#7"
    assert index.samples[-1].path == "t10k-images-idx3-ubyte.gz#5"
    assert index.labels("val") == [0, 1, 2, 0, 1, 2]
    assert index.source == index.root == tmp_path
    assert {sample.bytes for sample in index.samples} == {30}
    assert index.skipped == (
        (".hidden", "name begins with a dot"),
        ("readme.txt", "no part of the data set"),
    )
    for sample in index.samples:
        decode(read_bytes(index.root / sample.path))


def test_beside_a_val_part_the_test_part_is_for_the_end(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 12)
    write_idx(tmp_path, "val", 6)
    write_idx(tmp_path, "t10k", 9, classes=4)
    index = scan(tmp_path)
    assert (index.counts("val"), index.counts("test")) == ([2, 2, 2], [3, 2, 2])
    assert index.samples[-1].path == "t10k-images-idx3-ubyte.gz#8"
    assert [path for path, _ in index.skipped] == [f"t10k-images-idx3-ubyte.gz#{n}" for n in (3, 7)]
    assert not index.val_is_test


def test_without_a_val_part_a_share_is_put_aside(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 30)
    index = scan(tmp_path, seed=1)
    assert (index.counts("train"), index.counts("val")) == ([8] * 3, [2] * 3)
    assert index == scan(tmp_path, seed=1)
    assert index.samples != scan(tmp_path, seed=2).samples


def test_classes_are_the_labels_in_the_order_of_numbers(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 24, 12)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.arange(24, dtype=np.uint8) % 12 * 5)))
    assert scan(tmp_path).classes == tuple(str(5 * n) for n in range(12))


def test_a_label_that_training_has_not_is_an_error(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", classes=3)
    write_idx(tmp_path, "test", classes=5)
    with pytest.raises(DataError, match="labels that training has not: 3, 4") as error:
        scan(tmp_path)
    assert "0, 1, 2" in error.value.hint


def test_one_label_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only one class"):
        scan(write_idx(tmp_path, "train", classes=1))


def test_of_two_copies_the_packed_one_is_used_and_it_is_said(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", end="")
    write_idx(tmp_path, "train", end=".gz")
    index = scan(tmp_path)
    assert all(".gz#" in sample.path for sample in index.samples)
    assert len(index.skipped) == 2
    assert index.skipped[0][1] == "another file of this part is used"


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", end="")
    before = scan(tmp_path).fingerprint
    assert before == scan(tmp_path).fingerprint
    path = tmp_path / "train-images-idx3-ubyte"
    data, status = bytearray(path.read_bytes()), path.stat()
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if it were the same
    assert scan(tmp_path).fingerprint != before
    assert container.load(path).pixels_of(-1)[-1, -1] == data[-1]  # of this process, too


@pytest.mark.parametrize("folder", ["fashion-mnist", "FashionMNIST", "FashionMNIST/raw"])
def test_a_known_data_set_gives_its_classes_names(tmp_path: Path, folder: str) -> None:
    index = scan(write_idx(tmp_path / folder, "train"))
    assert index.classes == ("T-shirt/top", "Trouser", "Pullover")
    assert "fashion-mnist" in index.notes[0]
    many = write_idx(tmp_path / folder, "train", 24, 12)
    assert scan(many).classes[-1] == "11"


def test_class_folders_are_not_mistaken_for_containers(photos: Path) -> None:
    assert scan(photos).containers == ()


def test_the_real_mnist_is_scanned_in_a_second(shared: Path) -> None:
    began = time.process_time()
    index = scan(shared / "data" / "mnist")
    assert (len(index.of("train")), len(index.of("val"))) == (60_000, 10_000)
    assert index.counts("val") == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert index.classes == tuple("0123456789")
    assert index.notes == index.skipped == ()
    assert time.process_time() - began < 5  # 0.4 here


# In memory


def test_many_threads_read_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, "train")
    reads = []
    real = container.read_images
    monkeypatch.setattr(container, "read_images", lambda path: reads.append(path) or real(path))
    paths = [f"{tmp_path}/train-images-idx3-ubyte.gz#{n % 12}" for n in range(500)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read_bytes, paths))
    assert len(reads) == 1
    assert len(set(found)) == 12
    assert found[:12] == found[12:24]


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = write_idx(tmp_path, "train", end="") / "train-images-idx3-ubyte"
    before = read_bytes(f"{path}#0")
    path.write_bytes(idx(grey(13)))
    assert read_bytes(f"{path}#0") != before
    assert read_bytes(f"{path}#12")


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "KEPT_BYTES", 1000)
    for number in range(6):
        (tmp_path / f"{number}").write_bytes(idx(grey()))
        read_bytes(f"{tmp_path}/{number}#0")
    assert sum(map(container._weight, container._kept.values())) <= 1000
    (tmp_path / "large").write_bytes(idx(grey(100)))
    assert read_bytes(f"{tmp_path}/large#99")
    assert len(container._kept) == 1


# The commands


def test_predict_gives_a_row_for_every_picture(here: Here, run: Path, tmp_path: Path) -> None:
    write_idx(tmp_path, "train", 5)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    (tmp_path / "cut-images").write_bytes(idx(grey())[:-1])
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")

    def paths(target: object) -> list[str]:
        answer = here("predict", run, target)
        assert answer.code == 0, answer.err
        return [row["path"] for row in csv.DictReader(io.StringIO(answer.out))]

    assert paths(file) == [f"{file}#{n}" for n in range(5)]
    assert paths(f"{file}#3") == [f"{file}#3"]
    assert paths(tmp_path / "*.gz")[:5] == [f"{file}#{n}" for n in range(5)]
    names = [f"{file.name}#{n}" for n in range(5)]
    assert paths(tmp_path) == ["cut-images", "photo.png", *names]
    answer = here("predict", run, tmp_path)
    (row, *_) = csv.DictReader(io.StringIO(answer.out))
    assert row["status"] == "error"
    assert "cut off" in row["error"]
    assert "train-labels-idx1-ubyte.gz" in answer.err
    listed = tmp_path / "list.txt"
    listed.write_text(f"{file}#4\n{file}#5\n{file}\n")
    assert paths(listed) == listed.read_text().split()


def test_a_run_on_containers_is_trained_exported_and_proved(here: Here, tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    write_idx(data, "train", 24)
    write_idx(data, "t10k", 9)
    words = ["--weights", "none", "--no-freeze", "--epochs", 1, "-o", folder]
    answer = here("finetune", "lenet", data, *words)
    assert answer.code == 0, answer.err
    answer = here("export", "onnx", folder)
    assert answer.code == 0, answer.err
    assert "same class on 9 of 9" in answer.out + answer.err  # the val part, as val.csv has it
