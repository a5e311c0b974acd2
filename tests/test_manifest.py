"""Manifests: what a table says is what there is, and every mistake is named with its line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from kit import Answer
from kit.data import labels, listed, manifest, splits, touch, tree, write_idx

from zoo import extras
from zoo.data.decode import read_bytes
from zoo.data.index import scan
from zoo.errors import DataError, MissingPackage

Here = Callable[..., Answer]


def fails(path: Path) -> str:
    with pytest.raises(DataError) as error:
        scan(path)
    assert error.value.hint
    assert str(path) in error.value.what
    return f"{error.value.what} | {error.value.hint}"


def test_paths_and_labels_with_a_share_put_aside(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\n" + listed())
    index = scan(path)
    assert index.classes == ("a", "b")
    assert (index.counts("train"), index.counts("val")) == ([8, 8], [2, 2])
    assert (index.root, index.source) == (tmp_path, path)
    assert index.notes == index.skipped == ()
    assert index == scan(path)
    assert splits(index) != splits(scan(path, seed=1))
    assert all((index.root / sample.path).is_file() for sample in index.samples)


def test_the_split_is_the_table_s(tmp_path: Path) -> None:
    text = "path,label,split\n1.jpg,a,Train\n2.jpg,b,TRAINING\n3.jpg,a,valid\n4.jpg,b,Val\n"
    index = scan(manifest(tmp_path, text))
    assert labels(index, "train") == {"1.jpg": "a", "2.jpg": "b"}
    assert labels(index, "val") == {"3.jpg": "a", "4.jpg": "b"}


def test_a_test_part_is_for_the_end(tmp_path: Path) -> None:
    """Without val a share of train is put aside; a class that only test has is not measured."""
    text = "path,label,split\n" + listed(extra=",train") + "x.jpg,a,test\ny.jpg,c,test\n"
    index = scan(manifest(tmp_path, text))
    assert labels(index, "test") == {"x.jpg": "a"}
    assert (index.counts("train"), index.counts("val")) == ([8, 8], [2, 2])
    assert index.drawn
    assert index.samples[-1].path == "x.jpg"
    assert index.skipped == (("y.jpg", "class 'c' of the test part is not in training"),)
    index = scan(manifest(tmp_path, text + "4.jpg,b,val\n"))
    assert labels(index, "val") == {"4.jpg": "b"}
    assert labels(index, "test") == {"x.jpg": "a"}
    assert not index.drawn


def test_a_table_with_a_train_part_only_is_split(tmp_path: Path) -> None:
    index = scan(manifest(tmp_path, "path,label,split\n" + listed(extra=",train")))
    assert index.counts("val") == [2, 2]


def test_a_group_stays_on_one_side(tmp_path: Path) -> None:
    lines = "".join(f"{c}{n}.jpg,{c},{c}{n // 4}\n" for c in "abc" for n in range(40))
    path = manifest(tmp_path, "path,label,group\n" + lines)
    seen = set()
    for seed in range(5):
        index = scan(path, seed=seed)
        assert index.counts("val") == [8, 8, 8]
        assert index == scan(path, seed=seed)
        sides: dict[str, set[str]] = {}
        for sample in index.samples:
            group = f"{sample.path[0]}{int(sample.path[1:-4]) // 4}"
            sides.setdefault(group, set()).add(sample.split)
        assert all(len(side) == 1 for side in sides.values())
        seen.add(frozenset(group for group, side in sides.items() if side == {"val"}))
    assert len(seen) > 1


def test_groups_of_many_classes_and_sizes_give_every_class_both_sides(tmp_path: Path) -> None:
    """Persons with some photos of each class, one with most of them; others stand alone."""
    lines = [f"p{n}-{c}.jpg,{c},p{n % 7}" for n in range(30) for c in "ab"]
    lines += [f"big{n}.jpg,a,big" for n in range(60)] + [f"c{n}.jpg,c," for n in range(10)]
    index = scan(manifest(tmp_path, "path,label,group\n" + "\n".join(lines)))
    assert all(count > 0 for part in ("train", "val") for count in index.counts(part))
    assert index.counts("val")[2] == 2
    assert {s.split for s in index.samples if s.path.startswith("big")} == {"train"}


def test_a_class_in_one_group_is_in_training_and_it_is_said(tmp_path: Path) -> None:
    lines = "".join(f"{c}{n}.jpg,{c},{c if c == 'a' else n}\n" for c in "ab" for n in range(10))
    index = scan(manifest(tmp_path, "path,label,group\n" + lines))
    assert index.counts("val") == [0, 2]
    assert index.notes == ("in one group only, so none for validation: a",)
    lines = "".join(f"{c}{n}.jpg,{c},{c}\n" for c in "ab" for n in range(10))
    with pytest.raises(DataError, match="no group can be put aside"):
        scan(manifest(tmp_path, "path,label,group\n" + lines))


def test_a_split_that_tears_a_group_is_an_error(tmp_path: Path) -> None:
    text = (
        "path,label,split,group\n1.jpg,a,train,x\n2.jpg,b,train,y\n3.jpg,a,val,z\n4.jpg,b,val,y\n"
    )
    assert "line 5: group 'y' is in val, and in train in line 3" in fails(manifest(tmp_path, text))


def test_a_group_in_the_test_part_is_torn_as_well(tmp_path: Path) -> None:
    text = "path,label,split,group\n1.jpg,a,train,x\n2.jpg,b,train,y\n3.jpg,b,test,y\n"
    assert "line 4: group 'y' is in test, and in train in line 3" in fails(manifest(tmp_path, text))
    path = manifest(tmp_path, text + "4.jpg,a,val,z\n")
    assert "line 4: group 'y' is in test, and in train in line 3" in fails(path)


def test_what_people_s_tables_look_like(tmp_path: Path) -> None:
    """A byte-order mark, semicolons, blanks, quotes, line ends of Windows, empty lines, notes."""
    text = (
        '\ufeffLabel ;note; PATH\r\n cat ;"a; b";"sub/one, two.jpg"\r\n\r\n'
        "dog;; a.jpg \r\ncat;;b.jpg\r\ndog;;c.jpg\r\n;;\r\n"
    )
    touch(tmp_path, "sub/one, two.jpg", "a.jpg", "b.jpg", "c.jpg")
    index = scan(manifest(tmp_path, text, photos=False))
    assert {s.path for s in index.samples} == {"sub/one, two.jpg", "a.jpg", "b.jpg", "c.jpg"}
    assert index.classes == ("cat", "dog")
    assert index.notes == ("columns that are not used: note",)


def test_a_path_with_blanks_is_taken_as_it_is_written(tmp_path: Path) -> None:
    touch(tmp_path, " x.jpg ", "x.jpg")
    index = scan(manifest(tmp_path, "path,label\n x.jpg ,a\nx.jpg,b\n1.jpg,a\n2.jpg,b\n"))
    assert {"x.jpg", " x.jpg "} <= splits(index).keys()


@pytest.mark.parametrize("header", ["filename;class", "File;Label", "IMAGE;class", "path;class"])
def test_columns_may_have_the_names_that_others_give_them(tmp_path: Path, header: str) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    index = scan(manifest(tmp_path, f"{header}\n1.jpg;a\n2.jpg;b\n3.jpg;a\n4.jpg;b\n"))
    assert (index.classes, len(index.samples), index.notes) == (("a", "b"), 4, ())


def test_a_column_of_our_name_comes_before_one_of_theirs(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    rows = "".join(f"9.jpg,{number}.jpg,x,{'ab'[number % 2]}\n" for number in range(1, 5))
    text = f"file,path,class,label\n{rows}"
    index = scan(manifest(tmp_path, text))
    assert index.classes == ("a", "b")
    assert index.notes == ("columns that are not used: file, class",)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "lists no photos"),
        ("path,label\n", "lists no photos"),
        ("\n\n", "lists no photos"),
        ("image_path,label\n1.jpg,a\n", "no column 'path'; it has image_path, label | did you mean "
         "image_path?"),
        ("path,lable\n1.jpg,a\n", "did you mean lable?"),
        ("path,label,Path\n1.jpg,a,b\n", "the column 'path' more than once"),
        ("path,label\n1.jpg,a\n2.jpg,\n", "line 3: the label is empty"),
        ("path,label\n1.jpg,a\n ,b\n", "line 3: the path is empty"),
        ("path,label\n1.jpg,a\n2.jpg,b,c\n", "line 3: 3 fields, the header has 2"),
        ('path,label\n1.jpg,a\n"2.jpg,b\n3.jpg,b\n', "line 4: unexpected end of data"),
        ("path,label\n1.jpg,a\n1.jpg,b\n", "line 3: 1.jpg has label 'b', but 'a' in line 2"),
        ("path,label\n1.jpg,a\n./sub/../1.jpg,b\n", "but 'a' in line 2"),
        ("path,label,split\n1.jpg,a,train\n1.jpg,a,val\n", "has split 'val', but 'train'"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,trian\n", "line 3: split 'trian' | did you "
         "mean train"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,\n", "line 3: the split is empty"),
        ("path,label,split\n1.jpg,a,val\n2.jpg,b,val\n", "no photo for training"),
        ("path,label,split\n1.jpg,cat,train\n2.jpg,dog,train\n3.jpg,cats,val\n",
         "line 4: label 'cats' is in val, but not in training | did you mean cat?"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "only one class ('a')"),
        ("path,label\n1.jpg,a\n2.jpg,A\n", "upper and lower case only: A, a"),
        ("path,label\n1.jpg,a\ngone.png,b\nlost.png,b\n", "line 3: gone.png does not exist (2 of 3 "
         "rows"),
        ("path,label\n1.jpg,a\n.,b\n", "line 3: . is no file"),
        ("path,label\n1.jpg,a\n1.jpg#0,b\n", "line 3: 1.jpg#0 does not exist"),
        ("path,label\n1.jpg,a\nx\0y,b\n", "line 3: a zero byte"),
        (f"path,label\n1.jpg,a\n{'x' * 200_000},b\n", "field larger than field limit"),
        (f"path,label\n1.jpg,a\n{'x' * 5000}.png,b\n", "does not exist"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, what: str) -> None:
    path = manifest(tmp_path, text)
    if "upper and lower" in what:
        with pytest.raises(DataError, match=what):
            scan(path)
    else:
        assert what in fails(path)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("path,label\n1.jpg,a\n2.jpg,Bär\n".encode("latin-1"), "line 3: byte 0xe4 is not UTF-8"),
        (b"\xff\xfep\0a", "line 1: byte 0x61 is not UTF-16"),
        (b"\x89PNG\r\n\x1a\n", "line 1: byte 0x89"),
    ],
)
def test_another_encoding_is_an_error(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "photos.csv"
    path.write_bytes(data)
    assert what in fails(path)


def test_a_photo_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    index = scan(manifest(tmp_path, f"path,label\n{listed()}./a0.jpg,a\n{tmp_path}/b0.jpg,b\n"))
    assert len(index.samples) == 20
    assert [reason for _, reason in index.skipped] == [
        "line 22: listed in line 2 already",
        "line 23: listed in line 12 already",
    ]


def test_photos_elsewhere_are_allowed_and_nothing_is_written(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.jpg", "2.jpg")
    text = f"path,label\n../elsewhere/1.jpg,a\n{tmp_path}/elsewhere/2.jpg,a\n" + listed("b", 2)
    path = manifest(tmp_path / "here", text)
    before = tree(tmp_path)
    index = scan(path)
    assert all(read_bytes(index.root / sample.path) for sample in index.samples)
    assert tree(tmp_path) == before


def test_the_fingerprint_follows_table_and_photos(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\n" + listed())
    prints = [scan(path).fingerprint]
    path.write_text("path,label\n" + listed(count=9))
    prints.append(scan(path).fingerprint)
    (tmp_path / "a0.jpg").write_bytes(b"much longer")
    prints.append(scan(path).fingerprint)
    assert len(set(prints)) == 3


def test_pictures_in_containers(tmp_path: Path) -> None:
    write_idx(tmp_path / "digits", "train")
    name = "digits/train-images-idx3-ubyte.gz"
    text = "path,label\n" + "".join(f"{name}#{n},{'ab'[n % 2]}\n" for n in range(12))
    index = scan(manifest(tmp_path, text))
    assert len(index.samples) == 12
    assert {sample.bytes for sample in index.samples} == {30}
    assert [path for path, _ in index.containers] == [name]
    for sample in index.samples:
        assert read_bytes(index.root / sample.path).startswith(b"P5")
    assert "line 14" in fails(manifest(tmp_path, f"{text}{name}#12,a\n"))
    (tmp_path / name).write_bytes(b"\x1f\x8b broken")
    assert "does not exist" in fails(manifest(tmp_path, text))


def write_parquet(file: Path, /, **columns: object) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    names = [f"{c}{n}.jpg" for c in "ab" for n in range(10)]
    touch(tmp_path, *names)
    path = write_parquet(
        tmp_path / "photos.parquet",
        Path=names, note=[None] * 20, label=[ord(name[0]) for name in names],
        group=[None, *names[1:]],
    )  # fmt: skip
    index = scan(path)
    assert index.classes == ("97", "98")
    assert index.notes == ("columns that are not used: note",)
    assert index.source == path


def test_mistakes_in_parquet_are_named_with_their_rows(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    path = tmp_path / "photos.parquet"
    write_parquet(path, path=["1.jpg", "2.jpg"], label=["a", None])
    assert "row 2: the label is empty" in fails(path)
    write_parquet(path, path=["1.jpg", "2.jpg"], label=[1.0, float("nan")])
    assert "row 2: the label is empty" in fails(path)
    write_parquet(path, path=[{"bytes": b"x"}], label=["a"])
    assert "column 'path' holds struct" in fails(path)
    write_parquet(path, photo=["1.jpg"], label=["a"])
    assert "no column 'path'" in fails(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert "is no Parquet file" in fails(path)


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(tmp_path / "photos.parquet", path=["1.jpg"], label=["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackage) as error:
        scan(path)
    assert error.value.hint == (
        f"`{extras.install('parquet')}` installs it; or give a .csv, or a folder"
    )


def test_a_table_that_may_not_be_read(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\n" + listed())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "cannot be read" in fails(path)


def test_a_run_on_a_manifest_goes_through_every_command(
    here: Here, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    table = tmp_path / "photos.csv"
    lines = (f"{os.path.relpath(photos / name, tmp_path)},{name.split('/')[0]}" for name in names)
    table.write_text("path,label\n" + "\n".join(lines))
    monkeypatch.chdir(tmp_path)
    words = ["--weights", "none", "--no-freeze", "--epochs", 1, "-o", "run"]
    answer = here("finetune", "lenet", "photos.csv", *words)
    assert answer.code == 0, answer.err
    answer = here("export", "onnx", "run")
    assert answer.code == 0, answer.err
