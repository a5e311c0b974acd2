"""Files and requests that hypothesis makes up: each is read, or refused in words; no other error.

Run folders have their own in test_strangers.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kit import CLASSES, Here, csv_rows, encoded, picture
from kit.jobs import planned
from starlette.testclient import TestClient

from zoo import api, recipe
from zoo.data.manifest import scan_manifest
from zoo.engine.exported import metadata
from zoo.errors import DataError, InputError, RecipeError, RunError, ZooError
from zoo.run import Run
from zoo.scale import plan, store
from zoo.serve.app import Limits, create
from zoo.settings import table

ODD = st.sampled_from(
    [None, True, -1, 0, 1, 2**70, 1e308, float("nan"), "", "../x", "/etc/passwd", "\0", "\ud800",
     "x" * 10_000, "s3://b/c", [], {}, [[]], [None], {"a": None}, "plan/../../x", "=1+1"]
)  # fmt: skip
VALUES = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
OURS = examples(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a record, and to all of it."""
    yield above
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in pairs:
            yield from places(each, (*above, key))


def edited(record: Any, way: tuple[Any, ...], value: Any) -> Any:
    """The record with another value there."""
    if not way:
        return value
    changed = copy.deepcopy(record)
    place = changed
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = value
    return changed


@contextlib.contextmanager
def read_or_refused(kind: type[ZooError]) -> Iterator[None]:
    """Let pass what is refused by this error, which must say what to do."""
    hint = "read"
    try:
        yield
    except kind as error:
        hint = error.hint
    assert hint


# A job's plan


def test_no_plan_is_a_fault_of_zoo(tmp_path: Path) -> None:
    """It is of a stranger as soon as a bucket is shared: types, numbers, and names of files."""
    shards = planned(tmp_path / "job", [f"id{number}" for number in range(5)], 2)
    file = tmp_path / "job" / "plan.json"
    right = json.loads(file.read_text())
    kinds = {
        name: kind | int if "float" in str(kind) else kind
        for name, kind in get_type_hints(plan.Settings).items()
        if name != "preprocess"
    }

    @examples(OURS, max_examples=60)
    @given(st.sampled_from(list(places(right))), VALUES)
    def check(way: tuple[Any, ...], value: Any) -> None:
        file.write_text(json.dumps(edited(right, way, value)))
        there = store.Store(str(tmp_path / "job"))
        with read_or_refused(InputError):
            found = plan.read(there)
            assert 0 < found.shards <= found.photos
            for name, kind in kinds.items():
                assert isinstance(getattr(found.settings, name), kind), name
            for number in range(min(found.shards, 200)):
                plan.Shards(there, found).photos(number)
                plan.Shards(there, found).expected(number)

    check()
    file.write_text(json.dumps(right))
    assert plan.read(shards.store) == shards.plan


@pytest.mark.parametrize(
    ("way", "value", "said"),
    [
        (("files", 0), "plan/../../secret", "files[0] is 'plan/../../secret', not text"),
        (("shards",), 10**12, "shards and its files differ"),
        (("shards",), "3", "shards is '3', not a whole number"),
        (("settings", "top"), 2**70, "settings.top is 1180591620717411303424, not a whole number"),
        (("settings", "trusts"), 1, "settings.trusts is 1, not true or false"),
    ],
)
def test_the_field_of_a_plan_is_named(
    here: Here, tmp_path: Path, way: tuple[Any, ...], value: object, said: str
) -> None:
    planned(tmp_path / "job", ["a", "b", "c"], 1)
    file = tmp_path / "job" / "plan.json"
    file.write_text(json.dumps(edited(json.loads(file.read_text()), way, value)))
    for verb in ("verify", "merge", "work"):
        answer = here(verb, tmp_path / "job")
        assert answer.code == 2
        assert said in " ".join(answer.err.split())


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "other columns"])
def test_a_list_of_a_plan_that_is_damaged_is_told(here: Here, tmp_path: Path, damage: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    planned(tmp_path / "job", ["a", "b", "c"], 1)
    (file,) = (tmp_path / "job" / "plan").iterdir()
    if damage == "other columns":
        about = pq.read_metadata(file).metadata
        table = pa.table({"x": [1, 2, 3]}).replace_schema_metadata({"shards": about[b"shards"]})
        pq.write_table(table, file, row_group_size=1)
    else:
        whole = file.read_bytes()
        file.write_bytes({"cut": whole[:-30], "other": b"PAR1" * 50, "empty": b""}[damage])
    there = store.Store(str(tmp_path / "job"))
    shards = plan.Shards(there, plan.read(there))
    with pytest.raises(InputError, match="is damaged"):
        shards.photos(0)


# Recipes


TOML = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.tuples(
            st.sampled_from([*table()]) | st.text("ab.[]\"'", max_size=4),
            st.sampled_from(["-1", "0", "1e999", "nan", "true", '"x"', '""', "[]", "[1, [2]]",
                             "{a = 1}", "2020-01-01", '"\\u0000"', "0x" + "f" * 5000, "'../..'",
                             '"all"', "[" * 2000])
            | st.text(max_size=6),
        ),
        max_size=4,
    ).map(lambda lines: "\n".join(f"{name} = {value}" for name, value in lines)),
)  # fmt: skip


def test_no_recipe_is_a_fault_of_zoo(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"

    @examples(OURS, max_examples=80)
    @given(TOML)
    def check(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with read_or_refused(RecipeError):
            recipe.make({"model": "lenet", "data": "."}, path)

    check()


# Tables


CELLS = st.sampled_from(
    ["a.png", "b.png", "../a.png", "/etc/passwd", "", "train", "val", "test", "a;b", "=1", "nan",
     '"', "\0", "\r", "x" * 9000, ".", "a.png/", "é", "e\u0301", "\ufeff", "\x1b[31m"]
) | st.text(max_size=4)  # fmt: skip


def test_no_manifest_is_a_fault_of_zoo(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(picture("disc", 1)))
    path = tmp_path / "m.csv"
    header = st.permutations(["path", "label", "split", "group"]).map(",".join) | st.text(
        max_size=20
    )
    row = st.lists(CELLS, max_size=5).map(",".join)

    @examples(OURS, max_examples=50)
    @given(header, st.lists(row, max_size=6), st.sampled_from(["utf-8", "utf-16", "latin-1"]))
    def check(names: str, rows: list[str], encoding: str) -> None:
        path.write_bytes("\n".join([names, *rows]).encode(encoding, "replace"))
        with read_or_refused(DataError):
            scan_manifest(path)

    check()


def test_no_index_of_a_run_is_a_fault_of_zoo(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "index.csv"
    right = path.read_text().splitlines()
    names = list(csv_rows(run / "index.csv")[0])
    line = st.sampled_from(right) | st.lists(CELLS, max_size=len(names) + 1).map(",".join)

    @examples(OURS, max_examples=40)
    @given(st.sampled_from([right[0]]) | line, st.lists(line, max_size=4))
    def check(header: str, lines: list[str]) -> None:
        path.write_bytes("\n".join([header, *lines]).encode("utf-8", "surrogatepass"))
        opened = Run.open(tmp_path / "run")
        for read in (opened.photos, opened.digests, opened.labelled):
            with read_or_refused(RunError):
                read("val")

    check()


# What an exported file says of itself


def test_no_metadata_are_a_fault_of_zoo() -> None:
    right = {
        "zoo.classes": '["a", "b"]',
        "zoo.preprocess": '{"size": 32, "crop": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1]}',
        "zoo.input": "image",
        "zoo.threshold": "0.5",
        "zoo.task": "classify",
    }
    metadata(right)
    texts = st.text(max_size=10) | VALUES.map(json.dumps) | st.sampled_from(["[" * 9999, "1e999"])

    @examples(OURS, max_examples=100)
    @given(st.sampled_from(list(right)), texts)
    def check(name: str, text: str) -> None:
        try:
            said = metadata({**right, name: text})
        except ValueError:  # which `ExportedModel` says as its own error
            return
        assert 0 <= said["zoo.threshold"] <= 1
        assert len(set(said["zoo.classes"])) == len(said["zoo.classes"])

    check()


# What is sent to a server


@pytest.fixture(scope="module")
def client(exported: Path) -> Iterator[TestClient]:
    app = create(api.load(exported), Limits(size=200_000))
    with TestClient(app, "http://127.0.0.1:8000") as found:
        yield found
    app.state.desk.close()


def test_no_request_is_a_fault_of_zoo(client: TestClient) -> None:
    photo = encoded(picture("disc", 1))
    part = b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    pieces = st.sampled_from(
        [b"--x\r\n", b"--x--\r\n", b"\r\n", part, photo, photo[:99], b"\0", b"Content-Type: a/b",
         b'Content-Disposition: form-data; name="\xff"; filename*=utf-8\'\'%ff\r\n\r\n', b"x" * 999]
    )  # fmt: skip
    bodies = st.lists(pieces, max_size=6).map(b"".join) | st.binary(max_size=50)
    kinds = st.sampled_from(
        ["image/png", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain", "",
         "multipart/form-data; boundary=" + "x" * 300, "image/\x7f", "a" * 2000]
    )  # fmt: skip

    @examples(OURS, max_examples=50)
    @given(bodies, kinds, st.sampled_from(["", "?top=2", "?top=-1", "?top=x", "?x=%00"]))
    def check(body: bytes, kind: str, words: str) -> None:
        answer = client.post(f"/predict{words}", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (200, 400, 413, 415, 422), answer.text
        said = answer.json()
        if answer.status_code == 200:
            assert {row["status"] for row in said} <= {"ok", "error"}
        else:
            assert said["error"]
            assert "Traceback" not in answer.text

    check()
    assert client.post("/predict", content=photo, headers={"Content-Type": "image/png"}).is_success


# Names on a terminal


NAMES = ("\x1b[2J", "a\x07b", "line\nend", "\x9b31m", "right\u202eto left", "back\b\b\b")


def test_names_of_photos_and_classes_reach_no_terminal_as_they_are(
    here: Here, tmp_path: Path
) -> None:
    """In what commands say of them, by every way there is: tables, notes, errors."""
    for place, name in enumerate(NAMES):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(5):
            file = tmp_path / "data" / name / f"{name}{number}.png"
            drawn = picture(CLASSES[place % 3], 5 * (place // 3) + number)
            file.write_bytes(encoded(drawn))
        (tmp_path / "data" / name / f"{name}broken.png").write_text("no picture")
        (tmp_path / "data" / f"{name}.txt").touch()
    run, fit = tmp_path / "run", ["--weights", "none", "--freeze", "--views", "1", "--epochs", "1"]
    answers = [
        here("finetune", "lenet", tmp_path / "data", *fit, "--skip-unreadable", "-o", run),
        here("info", run),
        here("predict", run, tmp_path / "data" / "\x1b]0;gone.png"),
        here("predict", run, tmp_path / "data", "-o", tmp_path / "x.csv"),
        here("finetune", "lenet", tmp_path / "\x1b[2J"),
        here("info", "\x1b[2J"),
    ]
    assert [answer.code for answer in answers[:2]] == [0] * 2, answers
    for answer in answers:
        wrong = {one for one in answer.err + answer.out if not one.isprintable() and one != "\n"}
        assert not wrong, answer
    assert r"\x1b[2J" in "".join(answer.err + answer.out for answer in answers)
    assert {row["label"] for row in csv_rows(run / "index.csv")} == set(NAMES)
