"""Predict: one row for each input, in order, whatever the files are."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from kit import CLASSES, ROOT, Answer, Command, csv_rows, picture
from torch import nn

from zoo import catalog, device, models, weights
from zoo.catalog import Preprocess
from zoo.engine import select
from zoo.engine.torch import TorchEngine
from zoo.errors import ImageError, RunError
from zoo.predict import agreement
from zoo.predict.inputs import Input
from zoo.predict.predictor import check_name, open_predictor
from zoo.predict.reconstruct import Reconstructor
from zoo.predict.rows import Prediction
from zoo.text import read_name

Here = Callable[..., Answer]
Row = dict[str, str]
LIMIT = 300 * 1024  # kB


def answered(answer: Answer) -> list[Row]:
    assert answer.code == 0, answer.err
    return csv_rows(answer.out)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good pictures at three depths with broken ones between them."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "deep" / "deeper").mkdir(parents=True)
    for number in range(10):
        kind = CLASSES[number % 3]
        folder = (root, root / "deep", root / "deep" / "deeper")[number % 3]
        picture(kind, number).save(folder / f"{number}.png")
    whole = (root / "0.png").read_bytes()
    (root / "1-cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "deep" / "3-empty.jpg").touch()
    (root / "deep" / "notes.txt").write_text("no picture")
    (root / ".hidden.png").write_bytes(whole)
    (root / "zz-page.jpg").write_text("<html>")
    return root


IN_ORDER = [
    "0.png", "1-cut.png", "3.png", "6.png", "9.png", "deep/1.png", "deep/3-empty.jpg",
    "deep/4.png", "deep/7.png", "deep/deeper/2.png", "deep/deeper/5.png", "deep/deeper/8.png",
    "zz-page.jpg",
]  # fmt: skip
BROKEN = {"1-cut.png", "deep/3-empty.jpg", "zz-page.jpg"}


def test_one_row_for_each_picture_in_order_at_any_depth(here: Here, run: Path, mixed: Path) -> None:
    answer = here("predict", run, mixed)
    found = answered(answer)
    assert list(found[0]) == ["path", "status", "label", "probability", "error"]
    assert [row["path"] for row in found] == IN_ORDER
    assert {row["path"] for row in found if row["status"] == "error"} == BROKEN
    assert "13 rows, 3 of them errors" in answer.err
    assert "1 file is no picture and has no row: deep/notes.txt" in answer.err


def test_errors_of_more_kinds_than_are_said_are_counted(here: Here, run: Path, tmp_path: Path):
    for number, text in enumerate(["", "", "a", "\xff\xd8\xff", "....ftypheic", "....ftypcrx "]):
        (tmp_path / f"{number}.jpg").write_bytes(text.encode("latin-1"))
    said = here("predict", run, tmp_path).err
    reasons = [
        int(one) for one in re.findall(r"^  (\d+) errors?(?=:| for other reasons)", said, re.M)
    ]
    assert sum(reasons) == 6
    assert len(reasons) == 4


def test_error_rows_carry_the_reason_and_nothing_else(here: Here, run: Path, mixed: Path) -> None:
    for row in answered(here("predict", run, mixed, "--top", 2)):
        bad = row["status"] == "error"
        assert row["status"] in ("ok", "error")
        for name in ("label", "probability", "label_2", "probability_2"):
            assert bool(row[name]) is not bad
        assert bool(row["error"]) is bad


@pytest.mark.parametrize("kind", ["run", "exported"])
def test_broken_files_change_no_other_row(
    kind: str, mixed: Path, request: pytest.FixtureRequest
) -> None:
    """Each row is what the file gets when it is predicted alone.

    To the last bits: some processors' matrix products differ by them with a row's place in a batch.
    """
    predictor = open_predictor(str(request.getfixturevalue(kind)))
    inputs = [Input(str(mixed / name), name) for name in IN_ORDER]
    together = list(predictor.rows(inputs, top=3))
    alone = [next(predictor.rows([item], top=3)) for item in inputs]
    for row, other in zip(together, alone, strict=True):
        assert replace(row, probabilities=()) == replace(other, probabilities=())
        assert row.probabilities == pytest.approx(other.probabilities, abs=1e-6)
    assert [row.path for row in together] == IN_ORDER
    assert len({row.labels[0] for row in together if row.status == "ok"}) == 3


def test_rows_name_the_class_of_their_own_picture(here: Here, run: Path, photos: Path) -> None:
    """The network knows these pictures: a row that was shifted would be wrong."""
    found = answered(here("predict", run, photos))
    right = sum(row["label"] == row["path"].split("/")[0] for row in found)
    assert len(found) == 36
    assert right >= 30


def test_probabilities_fall_and_add_up_to_one(run: Path, photos: Path) -> None:
    predictor = open_predictor(str(run))
    (row,) = predictor.rows([Input(str(photos / "disc" / "00.png"), "x")], top=99)
    assert sorted(row.labels) == sorted(CLASSES)
    assert sorted(row.probabilities, reverse=True) == list(row.probabilities)
    assert sum(row.probabilities) == pytest.approx(1, abs=1e-6)


def test_top_adds_columns_up_to_the_number_of_classes(here: Here, run: Path, photos: Path) -> None:
    two = answered(here("predict", run, photos / "disc", "--top", 2))
    names = ["path", "status", "label", "probability", "label_2", "probability_2", "error"]
    assert list(two[0]) == names
    one = answered(here("predict", run, photos / "disc"))
    assert [row["label"] for row in one] == [row["label"] for row in two]
    many = answered(here("predict", run, photos / "disc", "--top", 99))
    assert "label_3" in many[0]
    assert "label_4" not in many[0]


def test_a_single_picture_a_glob_and_a_list_keep_the_names_given(
    here: Here, run: Path, mixed: Path, tmp_path: Path
) -> None:
    one = mixed / "deep" / "4.png"
    assert [row["path"] for row in answered(here("predict", run, one))] == [str(one)]
    pattern = answered(here("predict", run, mixed / "deep" / "**" / "*.png"))
    names = [str(mixed / name) for name in IN_ORDER if name.startswith("deep")]
    assert sorted(row["path"] for row in pattern) == sorted(n for n in names if n.endswith("png"))
    names = [str(mixed / name) for name in reversed(IN_ORDER)] + [str(mixed / "gone.png")]
    listed = tmp_path / "list.txt"
    listed.write_text("\r\n".join([*names, "", names[0]]))
    found = answered(here("predict", run, listed))
    assert [row["path"] for row in found] == [*names, names[0]]
    assert found[-2]["error"] == "cannot be read: No such file or directory"


def test_several_words_are_rows_one_after_the_other(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    """As a shell writes out a pattern; a name in two folders stays two."""
    folders = [photos / name for name in CLASSES]
    alone = [csv_rows(here("predict", run, folder).out) for folder in folders]
    said = here("predict", run, *folders, folders[0])
    rows = csv_rows(said.out)
    assert [row["path"] for row in rows] == [
        str(folder / row["path"])
        for folder, found in zip([*folders, folders[0]], [*alone, alone[0]], strict=True)
        for row in found
    ]
    assert [row["label"] for row in rows[:12]] == [row["label"] for row in alone[0]]
    files = sorted(map(str, folders[1].iterdir()))
    assert [row["path"] for row in csv_rows(here("predict", run, *files).out)] == files
    wrong = here("predict", run, files[0], tmp_path / "nowhere")
    assert (wrong.code, wrong.out) == (2, "")
    assert "nowhere does not exist" in wrong.err
    inside = here("predict", run, tmp_path, folders[0], "--sort-into", folders[0] / "x")
    assert "whose pictures are only read" in inside.err


def test_stdin_is_a_list_and_names_come_back(zoo: Command, exported: Path, tmp_path: Path) -> None:
    """Also where the locale's own way with bytes is strict."""
    odd = [b"caf\xe9.png", "☕.png".encode()]
    for name in odd:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            picture("disc", 3).save(file, "PNG")
    names = [os.fsdecode(name) for name in odd]
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    listed = subprocess.run(
        [sys.executable, "-m", "zoo", "predict", str(exported), "-"],
        input=b"\n".join(odd), cwd=tmp_path, capture_output=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **strict},
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    found = csv_rows(listed.stdout.decode("utf-8"))
    assert [(read_name(row["path"]), row["status"]) for row in found] == [
        (name, "ok") for name in names
    ]
    folder = zoo("predict", exported, tmp_path, **strict)
    assert sorted(read_name(row["path"]) for row in csv_rows(folder.stdout)) == sorted(names)
    zoo("predict", exported, tmp_path, "-o", tmp_path / "out.csv", **strict)
    found = csv_rows(tmp_path / "out.csv")
    assert sorted(read_name(row["path"]) for row in found) == sorted(names)


def test_pipes_and_links_are_rows_and_end(here: Here, run: Path, tmp_path: Path) -> None:
    picture("disc", 1).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("gone.png")
    (tmp_path / "d.png").symlink_to("d.png")
    (tmp_path / "e.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener, (tmp_path / "g.png").open("wb") as sparse:
        listener.bind(str(tmp_path / "f.png"))
        sparse.truncate(10_000_000_000)
    (tmp_path / "h.png").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = answered(here("predict", run, tmp_path))
    assert [(row["path"], row["status"]) for row in found] == [
        ("a.png", "ok"), *((f"{letter}.png", "error") for letter in "bcdefg"),
    ]  # fmt: skip
    assert found[-1]["error"] == "10000 MB is more than 537 MB"


def test_csv_jsonl_and_parquet_say_the_same(
    here: Here, run: Path, mixed: Path, tmp_path: Path
) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        answer = here("predict", run, mixed, "--top", 2, "-o", tmp_path / f"out.{suffix}")
        assert (answer.code, answer.out) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == lines
    shown = [
        {k: "" if v is None else f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        for row in lines
    ]
    assert (
        csv_rows(tmp_path / "out.csv") == shown == answered(here("predict", run, mixed, "--top", 2))
    )
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "out.jsonl", "out.parquet"]


def test_an_older_file_is_replaced_whole(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old\n" * 10_000)
    assert here("predict", run, photos, "-o", path).code == 2
    assert path.read_text() == "old\n" * 10_000
    assert here("predict", run, photos, "-o", path, "--force").code == 0
    assert len(csv_rows(path)) == 36


def test_rows_as_json_have_the_classes_as_lists(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_text("<html>")
    words = ("predict", run, photos / "disc" / "00.png", tmp_path / "broken.png")
    told = json.loads(here(*words, "--json", "--top", 3).out)
    first, *_ = answered(here(*words, "--top", 3))
    assert [row["status"] for row in told] == ["ok", "error"]
    assert told[0]["labels"] == [first["label"], first["label_2"], first["label_3"]]
    assert told[0]["probability"] == told[0]["probabilities"][0]
    assert (told[1]["labels"], told[1]["label"]) == ([], None)
    assert "labels" not in json.loads(here(*words, "--json").out)[0]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("out.xlsx", "the suffix '.xlsx' names no format"),
        ("out", "it has no suffix, which names the format"),
        ("out.json", ".parquet, as in out.jsonl"),
        ("-", ".parquet, as in output.csv"),
        ("missing/out.csv", "there is no folder"),
        ("folder.csv", "is a folder"),
    ],
)
def test_place_that_cannot_be_written_is_refused_before_any_work(
    here: Here, tmp_path: Path, name: str, what: str
) -> None:
    """Before the model is looked at, too: there is none."""
    (tmp_path / "folder.csv").mkdir()
    answer = here("predict", "no-such-run", tmp_path, "-o", tmp_path / name)
    assert (answer.code, answer.out) == (2, "")
    assert what in answer.err
    assert os.listdir(tmp_path) == ["folder.csv"]


def test_one_row_is_a_row(here: Here, run: Path, photos: Path) -> None:
    answer = here("predict", run, photos / "disc/00.png")
    assert "; 3 classes\n" in answer.err
    assert "\n1 row\n" in answer.err


def test_inputs_that_name_no_pictures_are_errors(here: Here, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    (tmp_path / "none.txt").write_text("\n\n")
    for target, what in (
        ("empty", "no pictures in"),
        ("texts", "no pictures in"),
        ("none.txt", "lists no paths"),
        ("gone", "does not exist"),
        ("*.png", "does not exist, and matches no file"),
    ):
        answer = here("predict", run, tmp_path / target, "-o", tmp_path / "out.csv")
        assert answer.code == 2
        assert what in answer.err
        assert not (tmp_path / "out.csv").exists()
    assert "the network comes first" in here("predict", tmp_path, run).err
    with pytest.raises(
        RunError, match=r"model\.safetensors is no run folder[^`]*`zoo finetune MODEL PHOTOS"
    ):
        check_name(str(run / "model.safetensors"))


def test_empty_stdin_is_an_error(zoo: Command, exported: Path) -> None:
    done = zoo("predict", exported, "-", stdin="\n")
    assert done.returncode == 2
    assert "error: - names no pictures" in done.stderr


def test_strict_fails_where_a_row_is_an_error(
    here: Here, run: Path, mixed: Path, photos: Path
) -> None:
    assert here("predict", run, mixed, "--strict").code == 1
    assert here("predict", run, photos, "--strict").code == 0


def test_the_data_are_left_as_they_are(here: Here, run: Path, mixed: Path) -> None:
    before = sorted((str(p), p.lstat().st_mtime_ns) for p in mixed.rglob("*"))
    here("predict", run, mixed)
    assert sorted((str(p), p.lstat().st_mtime_ns) for p in mixed.rglob("*")) == before


def test_an_exported_file_answers_as_its_run(
    here: Here, run: Path, exported: Path, photos: Path
) -> None:
    ours, theirs = (answered(here("predict", model, photos)) for model in (run, exported))
    assert [row["path"] for row in ours] == [row["path"] for row in theirs]
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert float(a["probability"]) == pytest.approx(float(b["probability"]), abs=0.05)


def test_a_moved_run_still_predicts(here: Here, run: Path, photos: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    assert here("predict", moved, photos).out == here("predict", run, photos).out


# Predicts with sys.argv[1:], then says on stderr what was imported and the peak memory in kB.
WATCHED = """
import re, sys
from zoo.cli import main
code = main(["predict", *sys.argv[1:]])
heavy = [name for name in ("torch", "torchvision", "timm", "rich", "onnx") if name in sys.modules]
try:
    peak = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]
except OSError:
    peak = "0"
print("imported:", *heavy, "peak:", peak, file=sys.stderr)
sys.exit(code)
"""


def test_hostile_files_through_an_exported_file_without_torch_in_little_memory(
    exported: Path, shared: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(exported), str(shared / "data" / "hostile")],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = {row["path"]: row["status"] for row in csv_rows(done.stdout)}
    assert outcomes == expected_outcomes(shared)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("imported: peak: ")
    assert int(last.split()[-1]) < LIMIT


def test_hostile_files_through_a_run(here: Here, run: Path, shared: Path) -> None:
    folder = shared / "data" / "hostile"
    found = answered(here("predict", run, folder))
    assert len(found) == 34
    assert {row["path"]: row["status"] for row in found} == expected_outcomes(shared)
    predictor = open_predictor(str(run))
    alone = [next(predictor.rows([Input(str(folder / r["path"]), r["path"])])) for r in found]
    assert [as_row(prediction) for prediction in alone] == found


def expected_outcomes(shared: Path) -> dict[str, str]:
    index = csv_rows(shared / "data" / "hostile" / "INDEX.csv")
    return {row["path"]: "ok" if row["outcome"] == "ok" else "error" for row in index}


def as_row(row: Prediction) -> Row:
    label, *_ = row.labels or ("",)
    probability = f"{row.probabilities[0]:.6g}" if row.probabilities else ""
    return {
        "path": row.path, "status": row.status, "label": label, "probability": probability,
        "error": row.error,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code", "suffix"),
    [
        (signal.SIGINT, 130, "csv"),
        pytest.param(signal.SIGTERM, 143, "jsonl", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, "parquet", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_process_leaves_no_file_that_looks_finished(
    exported: Path, photos: Path, tmp_path: Path, number: int, code: int, suffix: str
) -> None:
    many, path = tmp_path / "many", tmp_path / f"out.{suffix}"
    many.mkdir()
    for n in range(8_000):
        os.link(photos / "disc" / "00.png", many / f"{n:05}.png")
    words = [sys.executable, "-m", "zoo", "predict", str(exported), str(many), "-o", str(path)]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        partial, deadline = tmp_path / f"out.{suffix}.partial", time.monotonic() + 600
        while not (partial.exists() and (suffix == "parquet" or partial.stat().st_size)):
            assert process.poll() is None, process.stderr
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=600)
    assert process.returncode == code, err
    assert out == ""
    assert "interrupted\nhint: run it again" in err
    assert "Traceback" not in err
    assert not path.exists()
    assert partial.exists() is (suffix != "parquet")


# Answers that are none.


def exported_like(path: Path, values: list[float], **about: str) -> Path:
    """A file as zoo exports it that gives these numbers for every picture."""
    import onnx
    from onnx import TensorProto, helper

    said = {
        "zoo.classes": json.dumps(CLASSES),
        "zoo.preprocess": json.dumps(Preprocess(size=32).to_dict()),
        "zoo.input": "image",
        "zoo.task": "classify",
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "values"], ["all"]),
        # How many are left nobody can tell before it runs: that is how a file can lie about it.
        helper.make_node("Add", ["nothing", "ones"], ["some"]),
        helper.make_node("Cast", ["some"], ["taken"], to=TensorProto.BOOL),
        helper.make_node("Compress", ["all", "taken"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "first"], ["probabilities"]),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "h", "w", 3])
    result = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 3])
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("ones", TensorProto.FLOAT, [len(values)], [1.0] * len(values)),
        helper.make_tensor("values", TensorProto.FLOAT, [len(values)], values),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
    ]
    graph = helper.make_graph(nodes, "x", [given], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, said | {name.replace("_", "."): v for name, v in about.items()})
    model.ir_version = 10
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([0.2, 0.3, 0.5], ""),
        ([math.nan, 0.3, 0.5], "is not finite"),
        ([math.inf, 0.0, 0.0], "is not finite"),
        ([1.8e8, 0.0, 0.0], "1.8e+08 as a probability"),
        ([-0.5, 0.5, 1.0], "-0.5 as a probability"),
        ([0.2, 0.2, 0.2], "whose sum is 0.6"),
    ],
)
def test_what_is_no_probability_is_an_error_row(
    here: Here, tmp_path: Path, photos: Path, values: list[float], why: str
) -> None:
    model = exported_like(tmp_path / "x.onnx", values)
    found = answered(here("predict", model, photos / "disc"))
    assert len(found) == 12
    assert {row["status"] for row in found} == {"error" if why else "ok"}
    assert all(why in row["error"] and bool(row["label"]) is not bool(why) for row in found)
    served = open_predictor(str(model))
    (told,) = served.scores(np.stack([served.load(photos / "disc" / "00.png")]))
    assert why in str(told)
    assert isinstance(told, ImageError) is bool(why)
    if why:
        answer = here("evaluate", model, "--data", photos)
        assert answer.code == 2
        assert why in answer.err


def test_several_labels_need_not_add_up_to_one(here: Here, tmp_path: Path, photos: Path) -> None:
    about = {"zoo_task": "multilabel", "zoo_threshold": "0.5"}
    model = exported_like(tmp_path / "x.onnx", [0.9, 0.8, 0.1], **about)
    assert {row["label"] for row in answered(here("predict", model, photos))} == {"disc|square"}
    model = exported_like(tmp_path / "x.onnx", [0.9, 1.8, 0.1], **about)
    assert {row["status"] for row in answered(here("predict", model, photos))} == {"error"}


@pytest.mark.parametrize(
    "about",
    [
        {"zoo_threshold": "nan"},
        {"zoo_threshold": "-1"},
        {"zoo_threshold": "7"},
        {"zoo_classes": '["a", "b"]'},
        {"zoo_classes": '["a", "b", "c", "d"]'},
        {"zoo_preprocess": json.dumps(Preprocess(size=32, std=(0.0, 1.0, 1.0)).to_dict())},
        {"zoo_preprocess": json.dumps(Preprocess(size=32, std=(math.nan, 1.0, 1.0)).to_dict())},
        {"zoo_preprocess": json.dumps(Preprocess(size=32, mean=(math.inf, 1.0, 1.0)).to_dict())},
        {"zoo_preprocess": json.dumps(Preprocess(size=32, std=(1.0,)).to_dict())},
    ],
    ids=str,
)
def test_a_record_that_fits_no_answer_is_bad_input(
    here: Here, tmp_path: Path, photos: Path, about: dict[str, str]
) -> None:
    model = exported_like(tmp_path / "x.onnx", [0.2, 0.3, 0.5], **about)
    answer = here("predict", model, photos / "disc")
    assert answer.code == 2, answer.err
    assert "error:" in answer.err
    assert "hint:" in answer.err
    assert "fault of zoo" not in answer.err


def test_a_file_that_gives_other_numbers_than_it_says_is_bad_input(
    here: Here, tmp_path: Path, photos: Path
) -> None:
    model = exported_like(tmp_path / "x.onnx", [0.1, 0.2, 0.3, 0.4])
    answer = here("predict", model, photos / "disc")
    assert answer.code == 2, answer.err
    assert "the network gives 4 numbers a picture and has the names of 3 classes" in answer.err


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["disc", "square"]},
        {"classes": [*CLASSES, "more"]},
        {"threshold": math.nan},
        {"preprocess": {"std": [0.0]}},
        {"preprocess": {"std": [math.nan]}},
    ],
    ids=str,
)
def test_a_run_whose_record_fits_no_answer_is_bad_input(
    here: Here, run: Path, photos: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    record = json.loads((run / "run.json").read_text("utf-8"))
    for name, value in change.items():
        record[name] = {**record[name], **value} if isinstance(value, dict) else value
    (tmp_path / "run/run.json").write_text(json.dumps(record), "utf-8")
    answer = here("predict", tmp_path / "run", photos / "disc")
    assert answer.code == 2, answer.err
    assert "fault of zoo" not in answer.err


def test_a_network_that_overflows_gives_error_rows(
    here: Here, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that are finite in the file and not in the answer."""
    chain = models.build(catalog.find("lenet"))
    state = {n: torch.full_like(t, 3e38) for n, t in chain.state_dict().items()}
    weights.save(state, tmp_path / "x.safetensors")
    words = (photos / "disc", "--weights", tmp_path / "x.safetensors")
    found = answered(here("predict", "lenet", *words))
    assert {row["status"] for row in found} == {"error"}
    assert all("is not finite" in row["error"] for row in found)
    found = answered(here("embed", "lenet", *words))
    assert {row["status"] for row in found} == {"error"}
    monkeypatch.setattr(select, "version", lambda: None)  # without openvino, for which it is traced
    answer = here("rank", photos, "--models", f"lenet={tmp_path / 'x.safetensors'}", "--folds", 2)
    assert "not finite" in answer.out + answer.err
    preprocess = catalog.find("lenet").preprocess
    engine = TorchEngine(nn.Sequential(Overflow()), preprocess, device.choose("cpu", "fp32"))
    (row,) = Reconstructor(engine, preprocess, "").rows([Input(str(photos / "disc/00.png"), "x")])
    assert (row.status, row.after) == ("error", None)


class Overflow(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 1e38 * 1e38


def test_only_pictures_that_both_or_one_answer_are_compared(tmp_path: Path, photos: Path) -> None:
    """A precision that gives nothing finite agrees with nothing."""
    good, bad = (
        open_predictor(str(exported_like(tmp_path / f"{name}.onnx", values)))
        for name, values in (("good", [0.2, 0.3, 0.5]), ("bad", [math.nan] * 3))
    )
    (tmp_path / "none.png").touch()
    places = [photos / "disc/00.png", photos / "disc/01.png", tmp_path / "none.png"]
    inputs = [Input(str(path), path.name) for path in places]
    assert agreement.agreement(good, good, inputs) == (2, 2)
    assert agreement.agreement(bad, good, inputs) == (0, 2)
    assert agreement.agreement(good, bad, inputs) == (0, 2)
