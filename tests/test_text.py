"""Names are written so that they come back; tables are read as they were written."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.cli import main
from zoo.run import write_csv
from zoo.text import csv_line, csv_lines, listed, printable, read_name, show_name

OURS = settings(deadline=None, database=None, derandomize=True)
# Any text, half surrogates too, and often what the rules are about.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("\\udc8f0u5d\r\n\t\",;' =+-@\x1b\x85\u2028\ufeff\x00"),
        st.characters(exclude_categories=()),
    )
)
NAMES = st.one_of(TEXTS, st.binary().map(os.fsdecode))


def test_a_list_that_is_cut_says_so() -> None:
    assert listed(["ants", "bees"], 2) == "ants, bees"
    assert listed(["ants", "bees", 3], 2) == "ants, bees, … (3 in all)"


@settings(OURS, max_examples=100)
@given(NAMES)
def test_a_name_comes_back(name):
    text = show_name(name)
    assert read_name(text) == name
    text.encode()  # as UTF-8
    assert text == name or "\\" in text


def test_the_rule_is_the_documented_one():
    assert show_name(os.fsdecode(b"caf\xe9.jpg")) == r"caf\udce9.jpg"
    assert show_name(r"a\udce9.jpg") == r"a\u005cudce9.jpg"
    for plain in ("caf\u00e9.jpg", r"C:\users\udo\1.jpg", r"\u00e9", "\U0001f98a.png"):
        assert show_name(plain) == plain


@settings(OURS, max_examples=50)
@given(rows=st.lists(st.tuples(NAMES, TEXTS, NAMES), min_size=1, max_size=5))
def test_a_table_is_read_as_it_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    write_csv(path, ("path", "label", "other"), rows)
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        read = [tuple(map(read_name, row.values())) for row in csv.DictReader(file)]
    assert read == rows
    text = path.read_bytes().decode("utf-8")
    strict = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert [tuple(map(read_name, row)) for row in strict[1:]] == rows


@settings(OURS, max_examples=100)
@given(NAMES)
def test_no_control_character_reaches_a_terminal(name):
    for text in (printable(name), csv_line([name], screen=True)[:-1]):
        assert all(c.isprintable() or c == "\n" for c in text)
        text.encode()
    assert "\n" not in csv_line([name], screen=True)[:-1]


def test_formulas_are_prefixed_only_where_asked_for():
    formulas = ["=1+1", "+1", "-1", "@a", " =1", "\uff1d1", "\t=1"]
    cells = [*formulas, "a=1", 1.5, -2, None]
    (row,) = csv.reader([csv_line(cells, safe=True).rstrip("\n")])
    assert row == [*("'" + text for text in formulas), "a=1", "1.5", "-2", ""]
    (plain,) = csv.reader([csv_line(cells).rstrip("\n")])
    assert plain[:7] == formulas


CELLS = st.one_of(st.none(), st.integers(), st.floats(), st.sampled_from(["a/1.jpg", "", "é"]),
                  TEXTS)  # fmt: skip


ROWS = st.lists(st.lists(CELLS, max_size=3), max_size=4)


@settings(OURS, max_examples=200)
@given(ROWS)
def test_rows_of_a_table_are_written_at_once_as_one_by_one(rows):
    assert "".join(csv_lines(iter(rows))) == "".join(map(csv_line, rows))


@settings(OURS, max_examples=10)
@given(ROWS, st.integers(0, 3))
def test_many_rows_of_a_table_are_written_at_once_as_one_by_one(rows, width):
    for some in ([[f"{n}.jpg", *["x"] * width] for n in range(1030)], [["a"] * 2] * 600 + rows):
        assert "".join(csv_lines(iter(some))) == "".join(map(csv_line, some))


ODD = [b"a.png", b"b\rc.png", b"d\ne.png", b"=1+1.png", b"caf\xe9.png", rb"caf\udce9.png",
       b"\x1b[31mred.png", b'q"u,o;te.png', b"\xc2\x9b31m.png", b"z.png"]  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """Photos whose names hold everything that a name may hold."""
    folder = tmp_path_factory.mktemp("odd")
    random = np.random.default_rng(0)
    for name in ODD:
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(file, "png")
        try:
            (folder / os.fsdecode(name)).write_bytes(file.getvalue())
        except OSError:
            pytest.skip("this file system takes no such names")
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(os.fsdecode(name) for name in os.listdir(os.fsencode(folder)))


def test_every_format_names_the_same_photos(run, odd, tmp_path):
    import pyarrow.parquet as pq

    for suffix in ("csv", "jsonl", "parquet"):
        assert main(["predict", str(run), str(odd), "-o", str(tmp_path / f"x.{suffix}")]) == 0
    with open(tmp_path / "x.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    listed = [row["path"] for row in rows]
    assert sorted(map(read_name, listed)) == names_in(odd)
    assert all(row["status"] == "ok" and row["label"] for row in rows)
    lines = (tmp_path / "x.jsonl").read_text("ascii").splitlines()
    assert [json.loads(line)["path"] for line in lines] == listed
    assert pq.read_table(tmp_path / "x.parquet").column("path").to_pylist() == listed
    command = [sys.executable, "-m", "zoo", "predict", str(run), str(odd)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.stdout == (tmp_path / "x.csv").read_bytes()


def test_embedded_photos_have_the_same_names(run, odd, tmp_path, here):
    import pyarrow.parquet as pq

    for suffix in ("csv", "parquet", "npz"):
        words = ["--picture", "none", "-o", tmp_path / f"x.{suffix}"]
        assert here("embed", run, odd, *words).code == 0
    with open(tmp_path / "x.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    listed = [row["path"] for row in rows]
    assert sorted(map(read_name, listed)) == names_in(odd)
    assert pq.read_table(tmp_path / "x.parquet").column("path").to_pylist() == listed
    assert np.load(tmp_path / "x.npz")["path"].tolist() == listed
    assert here("embed", run, odd, "--csv-safe", "-o", tmp_path / "x.npz").code == 2


def test_a_spreadsheet_gets_no_formula(run, odd, tmp_path, here):
    assert here("predict", run, odd, "--csv-safe", "-o", tmp_path / "x.csv").code == 0
    with open(tmp_path / "x.csv", newline="", encoding="utf-8") as file:
        assert "'=1+1.png" in [row["path"] for row in csv.DictReader(file)]
    answer = here("predict", run, odd, "--csv-safe", "-o", tmp_path / "x.jsonl")
    assert answer.code == 2
    assert "no CSV" in answer.err


def test_a_terminal_gets_no_escape_codes(run, odd):
    """stdout and stderr of a real process on a real terminal, which asks for no colours."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "zoo", "predict", str(run), str(odd)]
    ends = {"stdout": theirs, "stderr": theirs, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(command, env=os.environ | {"TERM": "dumb"}, **ends) as job:
        os.close(theirs)
        shown = b""
        while True:
            try:
                some = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not some:
                break
            shown += some
    os.close(ours)
    assert job.returncode == 0, shown
    text = shown.decode("utf-8")
    assert len([line for line in text.split("\r\n") if ",ok," in line]) == len(ODD)
    assert not [c for c in text if not c.isprintable() and c not in "\r\n"]
    assert r"\x1b[31mred.png" in text
