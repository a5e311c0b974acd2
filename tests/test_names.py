"""Names as people, systems and programs write them: of classes, of files, in lists."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
import time
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from kit import CLASSES, Answer, picture, write_photos
from kit.data import listed, manifest, many, splits, touch

from zoo import datasets
from zoo.data import ignored, names, path_lists
from zoo.data.index import labelled, scan
from zoo.errors import DataError
from zoo.finetune.readable import check_readable
from zoo.predict import folder_labels, inputs
from zoo.text import read_name

NFC, NFD = (unicodedata.normalize(form, "Müsli") for form in ("NFC", "NFD"))
SYSTEM = (
    "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information", "@Recycle",
    "__MACOSX", ".@__thumb", "RECYCLER", "Network Trash Folder",
)  # fmt: skip


def found(target: object, stdin: bytes = b"") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(stdin))
    return [item.file for item in inputs.find(str(target), stream).each]


# Classes


TWINS = [
    (NFC, NFD), ("red fox", "red\u00a0fox"), ("fox", "fox\u200b"), ("red fox", "red  fox"),
    ("red fox", "red\u2009fox"), ("fox", "\ufefffox"), ("fox", "fo\u00adx"), ("fox", "fox\u2060"),
    ("红 狐", "红\u3000狐"), ("fox", "f\u200dox"), ("❤", "❤\ufe0f"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), TWINS, ids=ascii)
def test_spellings_that_look_the_same_are_one_class_and_it_is_said(
    tmp_path: Path, one: str, other: str
) -> None:
    for place in (tmp_path / "folders", tmp_path / "table.csv"):
        if place.suffix:
            text = "".join(f"{n}.jpg,{(one, other, 'z', 'z')[n % 4]}\n" for n in range(16))
            index = scan(manifest(tmp_path, f"path,label\n{text}", place.name))
        else:
            index = scan(many(place, (one, other, "z"), 6))
        assert set(index.classes) == {one, "z"}
        assert {sample.label for sample in index.samples} == {0, 1}
        (note,) = index.notes
        assert "merged" in note
        assert ascii(one) in note
        assert ascii(other) in note
        assert note.isascii()


def test_a_single_spelling_is_kept_as_it_is_written(tmp_path: Path) -> None:
    odd = (NFD, "red\u00a0fox", "می\u200cخواهم")
    index = scan(many(tmp_path, odd, 3))
    assert index.classes == tuple(sorted(odd))
    assert index.notes == ()


def test_val_is_matched_in_the_other_form(tmp_path: Path) -> None:
    many(tmp_path / "parts" / "train", (NFC, "other"), 6)
    many(tmp_path / "parts" / "val", (NFD, "other"), 6)
    index = scan(tmp_path / "parts")
    assert index.classes == (NFC, "other")
    assert index.counts("val") == [6, 6]
    assert index.notes == (
        "written otherwise, matched by what is seen: 'Mu\\u0308sli' is 'M\\xfcsli'",
    )
    text = f"1.jpg,{NFC},train\n2.jpg,b,train\n3.jpg,{NFD},val\n4.jpg,b,val\n"
    index = scan(manifest(tmp_path / "table", "path,label,split\n" + text))
    assert index.counts("val") == [1, 1]


def test_a_group_in_two_forms_is_on_one_side(tmp_path: Path) -> None:
    """Else the share that is put aside would hold photos of a person that was trained on."""
    people = [unicodedata.normalize("NFC", f"José {n}") for n in range(10)]
    lines = [f"{c}{p}{k}.jpg,{c},{(person, unicodedata.normalize('NFD', person))[k]}"
             for c in "ab" for p, person in enumerate(people) for k in range(2)]  # fmt: skip
    index = scan(manifest(tmp_path, "path,label,group\n" + "\n".join(lines) + "\n"))
    sides: dict[str, set[str]] = {}
    for path, side in splits(index).items():
        sides.setdefault(path[1], set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    assert {"train"} in sides.values()
    assert {"val"} in sides.values()


def test_columns_in_two_forms_are_one_class(tmp_path: Path) -> None:
    text = f"path,{NFC},{NFD},x\n1.jpg,1,1,0\n2.jpg,0,1,1\n3.jpg,1,0,1\n4.jpg,0,0,1\n5.jpg,1,1,1\n"
    index = scan(manifest(tmp_path, text))
    assert index.classes == (NFC, "x")
    marks = {sample.path[0]: sample.labels for sample in index.samples}
    assert marks == {"1": (0,), "2": (0, 1), "3": (0, 1), "4": (1,), "5": (0, 1)}
    assert "merged" in index.notes[0]


def test_a_folder_is_found_in_the_other_form(tmp_path: Path) -> None:
    many(tmp_path / NFC)
    assert datasets.locate(str(tmp_path / NFD)) == tmp_path / NFC
    assert len(found(tmp_path / NFD)) == 20


def test_a_photo_listed_twice_in_two_spellings_counts_once(tmp_path: Path) -> None:
    text = f"path,label\n{listed()}a0.jpg,a\u200b\n"
    index = scan(manifest(tmp_path, text))
    assert len(index.samples) == 20
    assert index.classes == ("a", "b")


@pytest.mark.parametrize("pair", [("1", "1.0"), ("1", "01"), ("1.1", "1.10"), ("1e2", "100"),
                                  ("7", "+7"), ("1", "１"), ("2,5", "2.5")])  # fmt: skip
def test_one_number_in_two_spellings_is_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    cells = [f'"{(*pair, "x", "x")[n % 4]}"' for n in range(16)]
    path = manifest(
        tmp_path, "path,label\n" + "".join(f"{n}.jpg,{c}\n" for n, c in enumerate(cells))
    )
    for place in (path, many(tmp_path / "folders", (*pair, "x"))):
        with pytest.raises(DataError, match="are the same number") as error:
            scan(place)
        assert all(name in error.value.what for name in pair)
        assert "write it in one way" in error.value.hint


def test_versions_words_and_large_numbers_are_no_twins(tmp_path: Path) -> None:
    kinds = (
        "v1",
        "v1.0",
        "n01440764",
        "1,000",
        "1",
        "-1",
        "10000000000000000",
        "10000000000000001",
    )
    index = scan(many(tmp_path, kinds, 2))
    assert len(index.classes) == 8
    assert index.notes == ()


@pytest.mark.parametrize("pair", [("сосна", "coсна"), ("A", "Ａ"), ("red-fox", "red_fox"),
                                  ("x2", "x²"), ("ΑΒ", "AB")])  # fmt: skip
def test_classes_that_are_hard_to_tell_apart_are_named(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    index = scan(many(tmp_path, (*pair, "z")))
    assert len(index.classes) == 3
    (note,) = index.notes
    assert note.startswith("WARNING: classes that look alike: ")
    assert all(ascii(name) in note for name in pair)


def test_classes_of_letters_and_flags_stay_apart(tmp_path: Path) -> None:
    tag = (
        "".join(chr(0xE0000 + ord(letter)) for letter in "gbeng"),
        "".join(chr(0xE0000 + ord(letter)) for letter in "gbsct"),
    )
    flags = tuple(f"\U0001f3f4{each}\U000e007f" for each in tag)
    index = scan(many(tmp_path, (*flags, "0", "O", "l", "é", "e"), 2))
    assert len(index.classes) == 7
    assert index.notes == ()


# Labels in a cell


SETS = [("sea",), ("hill",), ("sea", "sun"), ("hill", "sun"), ("sea", "hill", "sun")] * 4


def of_cells(tmp_path: Path, cells: list[str], name: str = "table.csv") -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "label"])
    writer.writerows([f"{n}.jpg", cell] for n, cell in enumerate(cells))
    touch(tmp_path, *(f"{n}.jpg" for n in range(len(cells))))
    return manifest(tmp_path, text.getvalue(), name, photos=False)


@pytest.mark.parametrize("mark", [";", ",", " ", ", ", "; ", "/", "，", "、", "\t", " + "])
def test_labels_with_another_mark_between_them_are_refused(tmp_path: Path, mark: str) -> None:
    path = of_cells(tmp_path, [mark.join(each) for each in SETS])
    with pytest.raises(DataError, match="seems to be several") as error:
        scan(path, task="multilabel")
    assert "line 5: the label 'hill" in error.value.what
    assert "put | between labels: hill|sun" in error.value.hint
    (note,) = scan(path).notes  # as one class a photo, which they may be
    assert note.startswith("WARNING: the label ")
    assert "put | between labels" in note
    assert scan(of_cells(tmp_path, ["|".join(each) for each in SETS])).classes == (
        "hill",
        "sea",
        "sun",
    )


@pytest.mark.parametrize(
    "write", [str, lambda each: str(list(each)), lambda each: f"[{', '.join(each)},]",
              lambda each: "{" + ",".join([*each, "x"]) + "}", lambda each: f"array({list(each)})"]
)  # fmt: skip
def test_a_list_in_a_cell_is_refused(tmp_path: Path, write: object) -> None:
    assert callable(write)
    path = of_cells(tmp_path, [write(each) for each in SETS])
    for task in ("multilabel", None):
        with pytest.raises(DataError, match="is a list as Python or JSON write it") as error:
            scan(path, task=task)
        assert "put | between labels: sea" in error.value.hint


def test_long_cells_are_looked_at_quickly(tmp_path: Path) -> None:
    odd = ["[\"" + "'" + " " * 120_000, "[" + "(" * 120_000 + "]", "x" * 120_000 + "(",
           "-" * 120_000, "['" + "x" * 120_000 + "(", ";" * 120_000,
           "\u200b" * 100_000 + "x"]  # fmt: skip
    began = time.process_time()
    index = scan(of_cells(tmp_path, odd * 2))
    assert len(index.classes) == 7
    assert time.process_time() - began < 20  # 0.4 here; by the square of a cell an hour
    assert all(len(note) < 1000 for note in index.notes)


def test_a_mark_in_one_line_of_many_is_seen(tmp_path: Path) -> None:
    cells = ["|".join(each) for each in SETS]
    with pytest.raises(DataError, match=r"line 22: the label 'sea;sun' seems to be several"):
        scan(of_cells(tmp_path, [*cells, "sea;sun"]))
    assert "salt, sea" in scan(of_cells(tmp_path, [*cells, "salt, sea", "salt, lake"])).classes


def test_names_with_commas_and_blanks_are_names(tmp_path: Path) -> None:
    kinds = ["salt, sea", "red fox", "red panda", "R&D", "his/her", "(", "[x]", "C++"]
    index = scan(of_cells(tmp_path, kinds * 3))
    assert index.classes == tuple(sorted(kinds))
    assert index.notes == ()
    index = scan(of_cells(tmp_path, [*kinds * 3, "", "", "red fox|C++"]))
    assert index.classes == tuple(sorted(kinds))


# No label


@pytest.mark.parametrize("word", ["nan", "NaN", "NAN", "<NA>", "NaT", "#N/A"])
def test_a_program_s_word_for_nothing_is_no_class(tmp_path: Path, word: str) -> None:
    path = manifest(tmp_path, f"path,label\n{listed()}c.jpg,{word}\n")
    for look in (lambda: scan(path), lambda: scan(path, task="multilabel"), lambda: labelled(path)):
        with pytest.raises(DataError, match="line 22: the label is ") as error:
            look()
        assert repr(word) in error.value.what
        assert "leave the cell empty or the line out" in error.value.hint
    text = "".join(f"{c}{n}.jpg,{c},{word}\n" for c in "ab" for n in range(4))
    with pytest.raises(DataError, match="line 2: the group is "):
        scan(manifest(tmp_path, "path,label,group\n" + text))


@pytest.mark.parametrize("word", ["None", "none", "null", "NULL", "NA", "n/a"])
def test_a_class_that_may_be_none_is_learned_and_it_is_said(tmp_path: Path, word: str) -> None:
    index = scan(manifest(tmp_path, "path,label\n" + listed() + f"c.jpg,{word}\nd.jpg,{word}\n"))
    assert word in index.classes
    (note,) = index.notes
    assert note.startswith(
        f"WARNING: 2 photos have the label {word!r}, which is learned as a class"
    )


def test_folders_and_columns_may_be_called_nan(tmp_path: Path) -> None:
    assert scan(many(tmp_path, ("nan", "null", "naan"))).classes == ("naan", "nan", "null")
    text = "path,nan,x\n1.jpg,1,0\n2.jpg,0,1\n3.jpg,1,1\n4.jpg,0,0\n5.jpg,1,0\n6.jpg,0,1\n"
    assert scan(manifest(tmp_path / "table", text)).classes == ("nan", "x")


def test_a_label_of_which_nothing_is_seen_is_empty(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\n" + listed() + "c.jpg,\u200b\u2060\n")
    with pytest.raises(DataError, match="line 22: the label is empty"):
        scan(path)


# Folders of systems


def nas(root: Path) -> Path:
    """Two classes with a thumbnail of each photo beside it, and bins at every depth."""
    many(root, ("left", "right"), 8)
    for name in SYSTEM:
        touch(root, f"{name}/x.jpg", f"left/{name}/0.jpg/THUMB_M.jpg", f"right/deep/{name}/1.jpg")
    return root


def test_folders_of_systems_are_left_out_at_any_depth_and_listed(tmp_path: Path) -> None:
    for root in (nas(tmp_path / "plain"), nas(tmp_path / "parts" / "train").parent):
        index = scan(root)
        assert index.classes == ("left", "right")
        assert len(index.samples) == 16
        left = {path.rpartition("/")[2] for path, _ in index.skipped}
        assert left == set(SYSTEM)
        assert len(index.skipped) == 3 * len(SYSTEM)
        assert ignored.told(index.skipped).startswith("27 (a folder that a system makes): ")
        assert "3 (name begins with a dot): " in ignored.told(index.skipped)
        note = ("cat/.DS_Store", ignored.DOT)  # of finetune's count and of check's
        assert ignored.of_note([note, *index.skipped]) == ignored.of_note(index.skipped)
        assert len(ignored.of_note(index.skipped)) == 30
        skipped: list[tuple[str, str]] = []
        assert [len(photos) for photos in labelled(root, skipped=skipped).values()] == [16]
        assert len(skipped) == 3 * len(SYSTEM)
        given = inputs.find(str(root), io.StringIO())
        assert given.total == len(list(given.each)) == 16
        assert {path for path, _ in given.passed} == {path for path, _ in index.skipped}
    pictures = scan(nas(tmp_path / "pictures"), task="reconstruct")
    assert len(pictures.samples) == 16


def test_the_plan_says_what_is_left_out(here: object, tmp_path: Path) -> None:
    assert callable(here)
    words = ["--weights", "none", "--no-freeze", "--dry-run", "-o", tmp_path / "run"]
    answer = here("finetune", "lenet", nas(tmp_path / "photos"), *words)
    assert answer.code == 0, answer.err
    assert "12 train, 4 val" in answer.err
    assert "30 entries left out, see skipped.csv: 27 (a folder that a system makes)" in answer.err


def test_a_class_called_train_with_thumbnails_is_no_part(tmp_path: Path) -> None:
    many(tmp_path, ("train", "plane"), 4)
    touch(tmp_path, "train/@eaDir/0.jpg/THUMB.jpg")
    assert scan(tmp_path).classes == ("plane", "train")


def test_what_is_named_is_taken_a_pattern_names_what_it_spells(tmp_path: Path) -> None:
    root = nas(tmp_path)
    assert len(found(root / "#recycle")) == 1
    assert len(found(root / "**" / "*.jpg")) == 16
    assert len(found(root / "@eaDir" / "*.jpg")) == 1
    touch(tmp_path, "lost+found/1.jpg")
    lines = listed("ab", 4) + "lost+found/1.jpg,a\n"
    (note,) = scan(manifest(tmp_path, "path,label\n" + lines)).notes
    assert note.startswith("WARNING: 1 photos lie in folders that a system makes, as lost+found/1")
    assert scan(many(tmp_path / "rubbish", ("recycled", "other"))).classes == ("other", "recycled")


# Lists


NAMES = ["1.png", "two words.png", "Äpfel.png"]


def text_of(mark: str = "\r\n", write: str = "{}") -> str:
    return "".join(write.format(name) + mark for name in NAMES)


LISTS = {
    "plain": text_of("\n").encode(),
    "bom": text_of().encode("utf-8-sig"),
    "utf16": text_of().encode("utf-16"),
    "utf16 big": b"\xfe\xff" + text_of().encode("utf-16-be"),
    "utf16 without a mark": text_of().encode("utf-16-le"),
    "utf32": text_of("\n").encode("utf-32"),
    "nul": text_of("\0").encode(),
    "nul without an end": text_of("\0").encode()[:-1],
    "old macOS": text_of("\r").encode(),
    "quoted": text_of("\r\n", '"{}"').encode(),
    "single quotes": text_of("\n", "'{}'").encode(),
    "blanks": text_of("  \n", "\t{}").encode(),
    "empty lines": text_of("\n\n \n").encode(),
    "no end": text_of("\n").encode().rstrip(),
    "marks within": text_of("\n", "\ufeff{}").encode(),
    "sep": b"sep=;\r\n" + text_of("\r\n", "{};x").encode(),
    "sep, path": b"\xef\xbb\xbfsep=;\r\nlabel;path\r\n" + text_of("\r\n", 'a;"{}"').encode(),
    "csv": b"path,status\n" + text_of("\n", '"{}",ok').encode(),
    "csv, no formulas": b"path;status\n" + text_of("\n", "'{};ok").encode(),
    "decomposed": unicodedata.normalize("NFD", text_of("\n")).encode(),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_are_read_as_they_are_saved(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(touch(tmp_path, *NAMES))
    for place, target in (("list.txt", "list.txt"), ("list", "@list"), ("", "-")):
        if place:
            Path(place).write_bytes(LISTS[kind])
        assert found(target, LISTS[kind]) == NAMES
    monkeypatch.chdir("/")
    assert found(tmp_path / "list.txt") == [str(tmp_path / name) for name in NAMES]


MANY = 12_000


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of many names for one file."""
    folder = tmp_path_factory.mktemp("crowd") / "photos"
    first = touch(folder, "000000.jpg") / "000000.jpg"
    for number in range(1, MANY):
        os.link(first, folder / f"{number * 7919 % MANY:06}.jpg")
    return folder


@pytest.mark.parametrize("kind", ["folder", "pattern", "list"])
def test_many_names_take_hardly_more_memory_than_their_letters(
    crowd: Path, tmp_path: Path, kind: str
) -> None:
    target = {"folder": crowd, "pattern": crowd / "*.jpg", "list": tmp_path / "list.txt"}[kind]
    names = [str(crowd / f"{number:06}.jpg") for number in range(MANY)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    letters = sum(map(len, names))
    tracemalloc.start()
    try:
        whole = inputs.find(str(target), io.StringIO())
        if kind == "pattern":  # Python's own list of them is gone again
            tracemalloc.reset_peak()
        assert whole.total == MANY
        assert all(item.file == name for item, name in zip(whole.each, names, strict=True))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * letters


def test_a_folder_is_listed_by_names_whatever_is_in_them(tmp_path: Path) -> None:
    names = ["a\x01.png", "a.png", "a b.png", "b\n.png", "é.png", "\udcff.png", "𝄞.png", "A.png"]
    folders = ["a", "a.b", "a\x01", "𝄞"]
    touch(tmp_path / "photos", *names, *(f"{folder}/1.png" for folder in folders))
    os.symlink(tmp_path / "photos" / "a", tmp_path / "photos" / "link")
    os.symlink("round", tmp_path / "photos" / "round.png")
    os.symlink("round.png", tmp_path / "photos" / "round")
    order = sorted([*names, *folders, "link", "round.png"])
    expected = [f"{each}/1.png" if each in (*folders, "link") else each for each in order]
    each = inputs.find(str(tmp_path / "photos"), io.StringIO()).each
    assert [item.shown for item in each] == expected


def test_a_list_is_worked_on_while_it_is_written() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as stream:
        each = path_lists.paths_in(stream, "stdin")
        os.write(writing, b"gone 1.png\ngone")
        assert next(each) == "gone 1.png"
        os.write(writing, b" 2.png\n")
        assert next(each) == "gone 2.png"
        os.close(writing)
        assert list(each) == []


def test_names_keep_what_a_list_seems_to_strip(tmp_path: Path) -> None:
    """Where there is a file of just that name."""
    odd = ['"x.png"', " y.png", "z.png ", "a\rb.png", "sep=;.png", "path", "c\\udce9.png"]
    touch(tmp_path, *odd)
    assert found("-", "\n".join(f"{tmp_path}/{name}" for name in odd).encode()) == [
        f"{tmp_path}/{name}" for name in odd
    ]
    lines = touch(tmp_path, "x\ny.png") / "x\ny.png"
    assert found("-", f"{lines}\0{lines}\0".encode()) == [str(lines)] * 2
    assert found("-", f"{tmp_path}/path".encode()) == [f"{tmp_path}/path"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xff\xfea\0b", "begins as UTF-16 does and goes on otherwise"),
        (b"sep=;\n" + b"x" * 200_000, "field larger than field limit"),
        (b"sep=;\nlabel;path\nx\n", "'x' has 1 fields, and path is column 2"),
        (b"", "lists no paths"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is a picture and no list of paths"),
        (b"\x89PNG\r\n\x1a\n", "is a picture and no list of paths"),
        (b"sep=;\npath\n", "lists no paths"),
    ],
)
def test_what_is_no_list_is_an_error(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=what) as error:
        found(path)
    assert str(path) in error.value.what
    assert error.value.hint


def test_zero_bytes_and_noise_in_a_list_are_names_that_are_not_there() -> None:
    assert found("-", b"a.png\nb\0c.png\n\xff\xfe\n") == ["a.png", "b", "c.png", "\udcff\udcfe"]


def shown(name: str) -> str:
    r"""What a table shows: `\udce9` for a byte E9, `\u005c` for a backslash that would read so."""
    text = re.sub(r"\\(?=ud[89a-f][0-9a-f]{2}|u005c)", r"\\u005c", name)
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)


def test_a_name_with_any_bytes_is_read_back_from_its_text() -> None:
    parts = ("\\", "udce9", "\udce9", "\udc80", "ü", "u005c", "dc")
    for count in range(5):
        for name in map("".join, itertools.product(parts, repeat=count)):
            assert read_name(shown(name)) == name


def test_a_name_that_is_not_utf8_is_found_by_its_text(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Path(odd).touch()
    assert found("-", f"{tmp_path}/caf\\udce9.png\n".encode()) == [odd]
    assert found("-", os.fsencode(odd)) == [odd]
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    text = "path,label\ncaf\\udce9.png,a\na.jpg,a\nb.jpg,b\nc.jpg,b\n"
    index = scan(manifest(tmp_path, text, photos=False))
    assert "caf\udce9.png" in splits(index)
    assert "1 paths are written otherwise than the names of their files" in index.notes[0]


# Tables and paths


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=;\n", "\ufeffsep=;\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_table_as_excel_saves_it(tmp_path: Path, first: str, encoding: str) -> None:
    touch(tmp_path, *(f"{n}, x.jpg" for n in range(8)))
    text = first + "path;label\n" + "".join(f"{n}, x.jpg;{'ab'[n % 2]}\n" for n in range(8))
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    index = scan(tmp_path / "m.csv")
    assert (len(index.samples), index.classes) == (8, ("a", "b"))
    (tmp_path / "m.csv").write_bytes((text + "gone.jpg;a\n").encode(encoding))
    with pytest.raises(DataError, match=r"line 11: gone\.jpg does not exist"):
        scan(tmp_path / "m.csv")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_path_in_the_other_form_is_found_and_it_is_said(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    there = [unicodedata.normalize(form, f"Bücher/Äpfel/é{n}.jpg") for n in range(8)]
    touch(tmp_path, *there)
    lines = [f"{unicodedata.normalize(other, path)},{'ab'[n % 2]}" for n, path in enumerate(there)]
    index = scan(manifest(tmp_path, "path,label\n" + "\n".join(lines), photos=False))
    assert set(splits(index)) == set(there)
    assert index.notes == (
        "8 paths are written otherwise than the names of their files: in another Unicode form, or "
        "with bytes that are not UTF-8",
    )
    absolute = unicodedata.normalize(other, f"{tmp_path}/{there[0]}")
    assert found("-", absolute.encode()) == [f"{tmp_path}/{there[0]}"]
    assert len(found(Path(absolute).parent)) == 8
    twice = [*lines, f"{there[0]},a"]
    index = scan(manifest(tmp_path, "path,label\n" + "\n".join(twice), photos=False))
    assert len(index.samples) == 8


def test_two_files_that_differ_in_form_only_are_two(tmp_path: Path) -> None:
    touch(tmp_path, f"{NFC}.jpg", f"{NFD}.jpg", "b.jpg", "c.jpg")
    text = f"path,label\n{NFC}.jpg,a\n{NFD}.jpg,a\nb.jpg,b\nc.jpg,b\n"
    index = scan(manifest(tmp_path, text, photos=False))
    assert len(index.samples) == 4
    assert index.notes == ()
    assert names.on_disk(str(tmp_path / "gönè.jpg")) is None


# Through the commands


@pytest.fixture(scope="module")
def muesli(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on two classes, one with an accent in NFC, and the same photos in NFD."""
    from zoo.cli import main

    root = tmp_path_factory.mktemp("muesli")
    for form in (NFC, NFD):
        for number in range(8):
            for kind, name in zip(CLASSES, (form, "other"), strict=False):
                place = root / ascii(form) / name
                place.mkdir(parents=True, exist_ok=True)
                picture(kind, number).save(place / f"{number}{form == NFD}.png")
    words = ["--weights", "none", "--no-freeze", "--views", "1", "--epochs", "2", "-o"]
    assert main(["finetune", "lenet", str(root / ascii(NFC)), *words, str(root / "run")]) == 0
    touch(root / ascii(NFD), "@eaDir/1.png", f"{NFD}/#recycle/2.png", ".hidden.png")
    return root / "run", root / ascii(NFD)


def test_photos_in_the_other_form_are_measured(here: object, muesli: tuple[Path, Path]) -> None:
    assert callable(here)
    run, other = muesli
    answer = here("evaluate", run, run, "--data", other)
    assert answer.code == 0, answer.err
    assert "matched by what is seen: 'Mu\\u0308sli' is 'M\\xfcsli'" in answer.err
    assert "left out: 2 (a folder that a system makes): @eaDir, " in answer.err
    assert ".hidden.png" in answer.err
    assert "committee" in answer.out
    item = inputs.Input(f"{other}/{NFD}/1.png", f"{NFD}/1.png")
    assert folder_labels.known(item) == NFC


def test_a_run_in_the_other_form_is_a_member(muesli: tuple[Path, Path]) -> None:
    from dataclasses import replace

    from zoo.predict.evaluate import evaluate
    from zoo.predict.predictor import open_predictor

    run, other = muesli
    one = open_predictor(str(run))
    twin = replace(one, classes=tuple(unicodedata.normalize("NFD", name) for name in one.classes))
    photos = [(f"{other}/{NFD}/1True.png", NFD), (f"{other}/other/1True.png", "other")]
    result = evaluate([one, twin], photos, lambda done, total: None)
    assert result.members[0].confusion == result.members[1].confusion
    assert result.committee is not None
    with pytest.raises(DataError, match="members know different classes"):
        evaluate([one, replace(one, classes=("other", "x"))], photos, lambda done, total: None)


def deep(root: Path) -> None:
    """A folder that no one can list, whoever asks: its path is longer than a path may be."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(18):
        os.mkdir("d" * 250, dir_fd=here)
        here, above = os.open("d" * 250, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)


def test_a_folder_that_cannot_be_listed_is_a_row(here: object, run: Path, tmp_path: Path) -> None:
    assert callable(here)
    picture("disc", 1).save(tmp_path / "a.png")
    picture("disc", 2).save(tmp_path / "z.png")
    (tmp_path / "m").mkdir()
    deep(tmp_path / "m")
    picture("disc", 2).save(tmp_path / ".dot.png")
    for command in ("predict", "embed"):
        answer: Answer = here(command, run, tmp_path)
        assert answer.code == 0, answer.err
        given = list(csv.DictReader(io.StringIO(answer.out)))
        assert [row["status"] for row in given] == ["ok", "error", "ok"]
        assert "File name too long" in given[1]["error"]
        assert "warning: the folder m/ddd" in answer.err
        assert "cannot be listed: File name too long; it is one error row" in answer.err
        assert "left out: 1 (name begins with a dot): .dot.png" in answer.err
    assert here("predict", run, tmp_path, "--strict").code == 1


@pytest.mark.skipif(os.getuid() == 0, reason="this user may read everything")
def test_a_folder_that_may_not_be_listed_says_so_in_its_row(
    here: object, run: Path, tmp_path: Path
) -> None:
    assert callable(here)
    picture("disc", 1).save(tmp_path / "a.png")
    (tmp_path / "m").mkdir(mode=0)
    answer = here("predict", run, tmp_path)
    (tmp_path / "m").chmod(0o700)
    assert "a folder that cannot be listed: Permission denied" in answer.out
    assert answer.code == 0


def test_many_unreadable_photos_stop_a_fine_tune_unless_they_may_be_skipped(
    here: object, tmp_path: Path
) -> None:
    assert callable(here)
    data, run = write_photos(tmp_path / "photos", CLASSES[:2], 5), tmp_path / "run"
    words = ["finetune", "lenet", data, "-o", run, "--weights", "none", "--no-freeze", "--views",
             "1", "--epochs", "1"]  # fmt: skip
    for number in range(2):
        (data / "disc" / f"{number:02}.png").write_bytes(b"no picture")
    check_readable(scan(data), {"disc/00.png": "a tenth is no more than 10 %"})
    answer = here(*words)
    assert answer.code == 2
    assert "2 of 10 photos cannot be read, more than 10 % (disc/00.png: not a picture" in answer.err
    assert "--skip-unreadable" in answer.err
    assert not run.exists()
    assert here("lr", *words[1:3], *words[5:10]).code == 2
    answer = here(*words, "--skip-unreadable")
    assert answer.code == 0, answer.err
    assert "skip_unreadable = true" in (run / "recipe.toml").read_text()
