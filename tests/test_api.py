"""zoo as Python has it: the same answers as the commands', as rows, and nothing else happens."""

from __future__ import annotations

import asyncio
import doctest
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from kit import CLASSES, ROOT, Here, loaded, picture
from PIL import Image

import zoo
from zoo.api import model as api_model
from zoo.api import rows as api_rows
from zoo.api import run as api_run
from zoo.data import objects
from zoo.data.views import numbered_view
from zoo.predict.predictor import Opening, open_predictor

PAGE = ROOT / "docs" / "python.md"
TABLE = pa.table({"path": ["a.jpg"], "label": ["cat"]})


@pytest.fixture(scope="module")
def ours(run: Path) -> zoo.Run:
    found = zoo.load(run)
    assert isinstance(found, zoo.Run)
    return found


# What `import zoo` is.


def test_importing_zoo_imports_nothing_heavy_and_shows_what_there_is() -> None:
    code = (
        "import zoo, sys; assert {'finetune', 'load', 'rank', 'ZooError'} <= {*dir(zoo)};"
        "zoo.finetune, zoo.load, zoo.ZooError; assert 'zoo.cli' not in sys.modules"
    )
    assert loaded(code).isdisjoint(("torch", "numpy", "PIL", "scipy", "typer", "rich"))


def test_the_stub_for_editors_has_the_same_names() -> None:
    lines = (ROOT / "zoo" / "__init__.pyi").read_text().splitlines()
    told = {line.split(" as ")[1] for line in lines if " as " in line}
    assert told == {*zoo.__all__} - {"__version__"}
    assert all(getattr(zoo, name) is not None for name in told)
    with pytest.raises(AttributeError, match="no attribute 'fintune'") as caught:
        zoo.fintune  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("fintune", zoo)  # Python suggests by them


def test_finetune_is_the_function_whatever_is_imported() -> None:
    from zoo.finetune import job

    assert job.__name__ == "zoo.finetune.job"
    assert callable(zoo.finetune)
    assert zoo.finetune.__module__ == "zoo.api"


# The answers.


def test_predict_gives_what_the_command_gives_to_the_last_bit(
    ours: zoo.Run, run: Path, photos: Path, here: Here, tmp_path: Path
) -> None:
    files = sorted(map(str, photos.glob("*/*.png")))
    assert here("predict", run, *files, "--top", 3, "-o", tmp_path / "a.jsonl").code == 0
    theirs = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    rows = ours.predict(files, top=3)
    printed = json.loads(here("predict", run, *files[:5], "--top", 3, "--json").out)
    assert [[*row.probabilities] for row in rows[:5]] == [row["probabilities"] for row in printed]
    assert [[*row.labels] for row in rows[:5]] == [row["labels"] for row in printed]
    assert [row.path for row in rows] == [row["path"] for row in theirs] == files
    assert [row.label for row in rows] == [row["label"] for row in theirs]
    names = ("probability", "probability_2", "probability_3")
    assert [[*row.probabilities] for row in rows] == [[r[n] for n in names] for r in theirs]
    assert ours.predict(photos, top=3)[0].probabilities == rows[0].probabilities


def test_a_picture_in_memory_is_what_its_file_is(
    ours: zoo.Run, photos: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture("disc", 3).save(turned, exif=exif)
    clear = tmp_path / "clear.png"
    picture("disc", 4).convert("RGBA").rotate(30).save(clear)
    grey = tmp_path / "grey.png"
    picture("disc", 5).convert("L").save(grey)
    for file in (photos / "disc" / "00.png", turned, clear, grey):
        (plain,) = ours.predict(file, top=3)
        upright = Image.open(file) if file != turned else Image.open(file).rotate(-90, expand=True)
        forms = [
            Image.open(file),
            file.read_bytes(),
            np.asarray(upright),
            bytearray(file.read_bytes()),
        ]
        assert [row.probabilities for row in ours.predict(forms, top=3)] == 4 * [
            plain.probabilities
        ]
        assert [row.path for row in ours.predict(forms)][:2] == [str(file), "picture 1"]


def test_many_arrays_are_many_pictures(ours: zoo.Run) -> None:
    one = np.asarray(picture("square", 1))
    several = np.stack([one, one[::-1], one])
    found = ours.predict(several)
    assert [row.path for row in found] == ["picture 0", "picture 1", "picture 2"]
    assert found[0].probability == found[2].probability
    assert len(ours.predict(row for row in several)) == 3
    assert len(ours.predict(one[..., 0])) == len(ours.predict(one[..., :1])) == 1
    assert ours.predict([]) == []


def test_what_cannot_be_read_is_a_row_with_an_error(ours: zoo.Run, tmp_path: Path) -> None:
    whole = io.BytesIO()
    picture("disc", 0).save(whole, "JPEG")
    (tmp_path / "half.jpg").write_bytes(whole.getvalue()[:900])
    (tmp_path / "text.jpg").write_text("no picture")
    half = Image.open(io.BytesIO(whole.getvalue()[:900]))
    files = [tmp_path / "half.jpg", "nowhere.jpg", b"no picture", b"", half, tmp_path / "text.jpg"]
    rows = ours.predict([*files, picture("disc", 0)])
    assert [row.status for row in rows] == [*["error"] * len(files), "ok"]
    assert all(row.error and row.label is None and not row.labels for row in rows[:-1])
    assert "No such file" in rows[1].error
    assert {row.status for row in ours.embed(files)} == {"error"}
    explained = ours.explain([*files, picture("disc", 0)])
    assert [row.status for row in explained] == [row.status for row in rows]
    with pytest.raises(zoo.ZooError, match=r"half\.jpg"):
        explained[0].picture()


@pytest.mark.parametrize(
    ("wrong", "what", "hint"),
    [
        (np.zeros((8, 8, 3)), "array of float64", "255"),
        (np.zeros((8, 8, 3), bool), "array of bool", "255"),
        (np.zeros((3, 8, 8), np.uint8), "array of 3 x 8 x 8", "transpose(1, 2, 0)"),
        (np.zeros((8, 8, 5), np.uint8), "array of 8 x 8 x 5", "list of arrays"),
        (np.zeros((0, 8, 3), np.uint8), "array of 0 x 8 x 3", "list of arrays"),
        (np.zeros(8, np.uint8), "array of 8:", "list of arrays"),
        (np.zeros((2, 3, 8, 8), np.uint8), "array of 3 x 8 x 8", "transpose"),
        (torch.zeros(3, 8, 8), "of type Tensor", "permute(1, 2, 0)"),
        ([None], "of type NoneType", "PIL.Image.open"),
        (7, "of type int", "PIL.Image.open"),
        ({"path": "a.jpg"}, "are a dict", "table['path']"),
        (TABLE, "are a Table", "table['path']"),
    ],
)
def test_what_is_no_picture_is_told_in_three_beats(
    ours: zoo.Run, wrong: object, what: str, hint: str
) -> None:
    with pytest.raises(zoo.ZooError) as caught:
        ours.predict(wrong)  # type: ignore[arg-type]
    assert what in caught.value.what
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda: zoo.load("resnet5"), "resnet5"),
        (lambda: zoo.load("runs/none"), "no run folder runs/none"),
        (lambda: zoo.load("none.onnx"), "no file none.onnx"),
        (lambda: zoo.load("lenet/mnist", views=0), "views=0"),
        (lambda: zoo.load("lenet/mnist", views=101), "views=101"),
        (lambda: zoo.finetune("lenet/mnist", "nowhere"), "nowhere"),
        (lambda: zoo.finetune("lenet/mnist", "nowhere", epoch=3), "unknown setting 'epoch'"),
        (lambda: zoo.finetune("lenet/mnist", "nowhere", lr=-1), "lr = -1"),
        (lambda: zoo.finetune("auto", "nowhere"), "nowhere"),
        (lambda: zoo.finetune("auto", "nowhere", max_size="20 stone"), "max-size 20 stone"),
        (lambda: zoo.finetune("auto", "nowhere", models=["lenetx"]), "lenetx"),
        (lambda: zoo.finetune("lenet/mnist", "nowhere", licence="mit"), "licence would do nothing"),
        (lambda: zoo.resume("nowhere"), "nowhere"),
        (lambda: zoo.rank("nowhere", ["lenet/mnist"]), "nowhere"),
        (lambda: zoo.rank("nowhere", ["lenetx"]), "lenetx"),
        (lambda: zoo.rank("nowhere", folds=1), "folds=1"),
        (lambda: zoo.rank("nowhere", views=0), "views=0"),
        (lambda: zoo.evaluate([]), "no model"),
        (lambda: zoo.evaluate("lenet/mnist"), "no run"),
        (lambda: zoo.evaluate("lenet/mnist", part="vall"), "vall"),
        (lambda: zoo.list_models(sort="size", colour="red"), "colour"),
        (lambda: zoo.list_models(sort="speed"), "speed"),
        (lambda: zoo.load("lenet/mnist").export(), "no run"),
        (lambda: zoo.load(None), "model is of type NoneType"),  # type: ignore[arg-type]
        (lambda: zoo.load(zoo.load("lenet/mnist")), "of type Model"),  # type: ignore[arg-type]
        (lambda: zoo.finetune("lenet/mnist", TABLE), "data is of type Table"),  # type: ignore[arg-type]
        (lambda: zoo.resume(3), "folder is of type int"),  # type: ignore[arg-type]
        (lambda: zoo.rank(["a.jpg"]), "data is of type list"),  # type: ignore[arg-type]
        (lambda: zoo.evaluate(None), "model is of type NoneType"),  # type: ignore[arg-type]
    ],
)
def test_every_error_is_a_zoo_error_that_says_what_to_do(
    ask: Callable[[], object], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(zoo.ZooError) as caught:
        ask()
    assert what in caught.value.what
    assert caught.value.advice in "".join(traceback.format_exception(caught.value))


def test_a_run_with_a_test_part_is_as_good_as_that_says(run: Path, tmp_path: Path) -> None:
    place = shutil.copytree(run, tmp_path / "run")
    record = json.loads((place / "run.json").read_text())
    record["test"] = record["results"] | {"accuracy": 0.25}
    (place / "run.json").write_text(json.dumps(record))
    found = zoo.load(place)
    assert isinstance(found, zoo.Run)
    assert (found.accuracy, found.report.part) == (0.25, "test")


def test_what_answers_is_opened_once(ours: zoo.Run) -> None:
    assert ours.predictor() is ours.predictor()
    assert ours.predictor(features=True) is not ours.predictor()


def test_evaluate_asks_as_many_views_as_it_is_told(run: Path) -> None:
    one, several = (zoo.evaluate(run, views=views)[0] for views in (1, 3))
    assert one.photos == several.photos == 6
    assert one.ece != several.ece


def test_the_views_of_a_run_are_mirrored_where_those_of_its_training_were(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    photo, seen = photos / "stripes" / "00.png", []
    for flip in (True, False):
        folder = shutil.copytree(run, tmp_path / f"flip-{flip}")
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(record | {"flip": flip}))
        ours = open_predictor(str(folder), Opening(views=8))
        assert ours.view is not None
        seen.append([ours.view(photo, number) for number in range(8)])
        for number, pixels in enumerate(seen[-1]):
            view = numbered_view(photo, number, preprocess=ours.preprocess, flip=flip)
            assert np.array_equal(pixels, view)
    assert not np.array_equal(*seen)


def test_answers_in_doubt_are_told(ours: zoo.Run, photos: Path) -> None:
    rows = ours.predict(photos, reject_below=1.0)
    assert {row.status for row in rows} in ({"rejected"}, {"ok", "rejected"})
    assert all((row.label is None) is (row.status == "rejected") for row in rows)
    with pytest.raises(zoo.ZooError, match="--max-error with"):
        ours.predict(photos, reject_below=0.5, max_error=0.05)
    with pytest.raises(zoo.ZooError, match="val photos"):
        ours.predict(photos, coverage=0.99)
    with pytest.raises(zoo.ZooError, match="top=0"):
        ours.predict(photos, top=0)


def test_an_exported_file_answers_as_its_run(ours: zoo.Run, exported: Path, photos: Path) -> None:
    file = zoo.load(exported)
    assert file.classes == ours.classes == CLASSES
    ours_of, theirs = ours.predict(photos), file.predict(photos)
    assert [row.label for row in ours_of] == [row.label for row in theirs]
    assert len(file.explain(photos / "disc" / "00.png", occlusion=True)) == 1
    for ask in (file.embed, file.explain):
        with pytest.raises(zoo.ZooError, match="exported file, which has no stages"):
            ask(photos)
    with pytest.raises(zoo.ZooError, match="no run"):
        file.export()


def test_explain_takes_classes_and_gives_pictures(ours: zoo.Run, photos: Path) -> None:
    rows = ours.explain(photos / "disc" / "00.png", ["square", "stripes"])
    assert [row.label for row in rows] == ["square", "stripes"]
    assert rows[0].heat is not None
    assert rows[0].heat.shape == rows[0].pixels.shape[:2]  # type: ignore[union-attr]
    assert min(rows[0].picture().size) >= 200
    with pytest.raises(zoo.ZooError, match="sqare"):
        ours.explain(photos / "disc" / "00.png", "sqare")


# Rows.


def test_rows_are_frozen_and_json_takes_them(ours: zoo.Run, photos: Path) -> None:
    file = photos / "disc" / "00.png"
    found = [*ours.predict(file), *ours.embed(file), *ours.explain(file), ours.report]
    found += [*zoo.list_models("lenet"), *zoo.evaluate(ours), *ours.report.classes[:0]]
    for row in found:
        assert json.loads(json.dumps(row.to_dict()))
        with pytest.raises(FrozenInstanceError):
            setattr(row, fields(row)[0].name, "another")
        assert pickle.loads(pickle.dumps(row)).to_dict() == row.to_dict()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_is_made_of_rows_as_they_are(library: str, ours: zoo.Run, photos: Path) -> None:
    frame = pytest.importorskip(library).DataFrame
    rows = ours.predict([photos / "disc", "nowhere.jpg"], top=2)
    table = frame(rows)
    assert table["label"].to_list()[0] == "disc"
    assert table["probability"].to_list()[0] == rows[0].probability
    assert len(table) == len(rows)
    for more in (
        ours.embed([photos / "disc", "nowhere.jpg"]), ours.explain(photos / "disc" / "00.png"),
        zoo.list_models("resnet*"), zoo.evaluate(ours), ours.report.classes,
    ):  # fmt: skip
        assert len(frame(list(more))) == len(more) > 0


# What else happens: nothing.


def test_the_caller_s_signals_threads_and_random_numbers_stay(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And nothing is printed: by no library either."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    torch.set_num_threads(2)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    run = zoo.finetune(
        "lenet", photos, output=tmp_path / "run", weights="none", freeze=False, epochs=1, views=1
    )
    run.predict(photos)
    run.embed(photos)
    run.explain(photos / "disc")
    run.export()
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert capfd.readouterr() == ("", "")


def test_a_callback_is_told_the_plan_the_epochs_and_the_progress(
    photos: Path, tmp_path: Path
) -> None:
    told: list[object] = []
    run = zoo.finetune(
        "lenet", photos, output=tmp_path / "run", weights="none", freeze=False, epochs=2, views=1,
        on_event=told.append,
    )  # fmt: skip
    assert any(isinstance(one, zoo.Line) and one.reason for one in told)
    assert [one.epoch for one in told if isinstance(one, zoo.Epoch)] == [1, 2]
    assert isinstance(told[-1], zoo.Finished)
    assert any(isinstance(one, zoo.Progress) for one in told)
    told.clear()
    zoo.load(run.folder, on_event=told.append).predict(photos)
    assert told[-1] == zoo.Progress("pictures", 36, 36)


def test_ctrl_c_passes_through_and_the_run_can_be_finished(photos: Path, tmp_path: Path) -> None:
    def stop(event: object) -> None:
        if isinstance(event, zoo.Epoch) and event.epoch == 2:
            raise KeyboardInterrupt

    how = {"weights": "none", "freeze": False, "epochs": 4, "views": 1, "seed": 3}
    with pytest.raises(KeyboardInterrupt):
        zoo.finetune("lenet", photos, output=tmp_path / "a", on_event=stop, **how)
    with pytest.raises(zoo.ZooError, match="unfinished"):
        zoo.load(tmp_path / "a")
    again = zoo.resume(tmp_path / "a")
    whole = zoo.finetune("lenet", photos, output=tmp_path / "b", **how)
    assert again.predict(photos) == whole.predict(photos)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    assert zoo.resume(tmp_path / "a").accuracy == again.accuracy
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()} == before


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_many_threads_get_the_answers_of_one(run: Path, photos: Path, engine: str) -> None:
    files = sorted(photos.glob("*/*.png"))[:16]
    model, shared = zoo.load(run, engine=engine), zoo.load(run, engine=engine)
    alone = [model.predict(file, top=3)[0] for file in files]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda file: shared.predict(file, top=3)[0], 2 * files))
    assert found == 2 * alone
    assert len(shared._opened) == 1


def test_it_works_where_an_event_loop_runs(ours: zoo.Run, photos: Path) -> None:
    async def notebook() -> list[zoo.Prediction]:
        rows = ours.predict(photos / "disc")
        return rows + await asyncio.to_thread(ours.predict, photos / "square")

    assert len(asyncio.run(notebook())) == 24


def test_a_plain_script_needs_no_main_guard(run: Path, photos: Path, tmp_path: Path) -> None:
    """Not even where processes are started anew; and it ends by itself."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys, zoo\n"
        "multiprocessing.set_start_method('spawn')\n"
        "rows = zoo.load(sys.argv[1]).predict(sys.argv[2])\n"
        "assert 'torch' not in sys.modules and len(rows) == 36\n"
    )
    done = subprocess.run(
        [sys.executable, script, run, photos],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# What is written about it.


@pytest.mark.parametrize("module", [zoo.api, api_model, api_rows, api_run])
def test_the_examples_of_the_docstrings_run(
    module: object, ours: zoo.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos)
    names = {"zoo": zoo, "run": ours, "Prediction": zoo.Prediction}
    runner, found = doctest.DocTestRunner(), 0
    for test in doctest.DocTestFinder().find(module, extraglobs=names):
        found += bool(test.examples)
        said: list[str] = []
        assert runner.run(test, out=said.append).failed == 0, "".join(said)
    assert found >= 1


def test_every_function_has_an_example() -> None:
    for name in zoo.api.__dict__:
        found = getattr(zoo.api, name)
        if getattr(found, "__module__", "") == "zoo.api" and not name.startswith("_"):
            assert ">>> " in found.__doc__, name


def as_on_the_page(folder: Path) -> None:
    """Write some of the photos that `zoo demo --photos` writes."""
    for kind in objects.KINDS:
        for part, count in (("train", 6), ("val", 4)):
            (folder / part / kind).mkdir(parents=True)
            for number in range(1, count + 1):
                photo = objects.draw(kind, f"0/{part}/{number}")
                photo.save(folder / part / kind / f"{kind}-{number:02}.jpg")


def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a network that is in the package, in the place of the one that is downloaded."""
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    as_on_the_page(tmp_path / "photos")
    text = PAGE.read_text(encoding="utf-8").replace("timm/mobilenetv2_100", "lenet/mnist")
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/python.md, block {number + 1}", "exec"), names)
    assert capsys.readouterr().err == ""
