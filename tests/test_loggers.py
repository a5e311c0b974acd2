"""metrics.csv, TensorBoard and trackers say what metrics.jsonl says, each epoch once."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import ROOT, Answer, carried_out

from zoo import extras, recipe
from zoo.errors import Interrupted, UsageError, WriteError
from zoo.finetune import begin
from zoo.finetune.prepare import prepare
from zoo.run import Run
from zoo.train.loggers import kinds, logging

Here = Callable[..., Answer]


def record(epoch: int, **more: Any) -> dict[str, Any]:
    values = {"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 2 / epoch, "accuracy": 0.5}
    return values | {"mse": None, "best": epoch == 1, "notes": ()} | more


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_kinds_are_checked_before_anything_is_computed() -> None:
    assert kinds(None) == ()
    assert kinds("csv") == ("csv",)
    assert kinds("csv, tensorboard") == ("csv", "tensorboard")
    for wrong in ("wand", "csv,", "CSV"):
        with pytest.raises(UsageError, match="there is no logger") as caught:
            kinds(wrong)
        assert "csv, tensorboard, mlflow, wandb" in caught.value.hint


def test_a_csv_has_a_line_for_each_epoch_as_soon_as_it_is_over(tmp_path: Path) -> None:
    with logging("csv", tmp_path, []) as loggers:
        for epoch in (1, 2):
            loggers[0].add(record(epoch, notes=("one, two", "three")))
            assert len(rows(tmp_path)) == epoch
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2"]
    assert rows(tmp_path)[0]["mse"] == ""
    assert rows(tmp_path)[1]["train_loss"] == "0.5"
    assert rows(tmp_path)[1]["notes"] == "one, two; three"


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_resumed_run_has_each_epoch_once(tmp_path: Path, kept: int) -> None:
    """Killed in the middle of a line, and going on from the epochs that metrics.jsonl keeps."""
    with logging("csv,tensorboard", tmp_path, []) as loggers:
        for epoch in (1, 2, 3):
            for logger in loggers:
                logger.add(record(epoch, accuracy=0.1))
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("4,0.2")
    done = [record(epoch, notes=[]) for epoch in range(1, kept + 1)]
    with logging("csv,tensorboard", tmp_path, done) as loggers:
        for epoch in range(kept + 1, 4):
            for logger in loggers:
                logger.add(record(epoch))
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2", "3"]
    assert [row["accuracy"] for row in rows(tmp_path)] == ["0.5"] * 3
    assert scalars(tmp_path)["accuracy"] == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_tensorboard_reads_every_number_at_its_epoch(tmp_path: Path) -> None:
    with logging("tensorboard", tmp_path, []) as loggers:
        loggers[0].add(record(1))
        loggers[0].add(record(2))
        assert scalars(tmp_path)["loss/val"] == [(1, 2.0), (2, 1.0)]  # while it is being written
    found = scalars(tmp_path)
    assert found.keys() == {"loss/train", "loss/val", "accuracy"}
    assert found["loss/train"] == [(1, 1.0), (2, 0.5)]
    assert not (tmp_path / "metrics.csv").exists()


def test_the_place_of_a_logger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(WriteError, match=r"metrics\.csv"), logging("csv", tmp_path, []):
        pass
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(WriteError, match="tensorboard"), logging("tensorboard", tmp_path, []):
        pass


class Stop:
    """Asks to stop after so many steps; -1: never."""

    def __init__(self, after: int) -> None:
        self.left, self.signal, self.events = after, 0, []

    def tell(self, event: object) -> None:
        self.events.append(event)

    def progress(self, what: str, done: int, total: int | None) -> None:
        self.left -= what.startswith("epoch")
        if not self.left:
            self.signal = signal.SIGTERM


@pytest.mark.slow
def test_a_stopped_run_logs_each_epoch_once_and_ends_with_the_same_bits(
    photos: Path, tmp_path: Path
) -> None:
    values = {"augment": "light", "mixup": 0.4, "cutmix": 1.0, "log": "csv,tensorboard"}
    settings = recipe.make(
        {"model": "lenet", "data": str(photos), "weights": "none", "freeze": False, "epochs": 4,
         "batch_size": 8, **values}
    )  # fmt: skip
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    carried_out(begin.start(prepare(settings), whole, Stop(-1)))
    with pytest.raises(Interrupted):
        carried_out(begin.start(prepare(settings), stopped, Stop(9)))
    assert 0 < len(rows(stopped)) < 4
    carried_out(begin.resume(prepare(settings), Run.open(stopped), Stop(-1)))
    for folder in (whole, stopped):
        lines = Run.open(folder).metrics()
        assert [int(row["epoch"]) for row in rows(folder)] == [1, 2, 3, 4]
        assert [float(row["val_loss"]) for row in rows(folder)] == [x["val_loss"] for x in lines]
        assert [step for step, _ in scalars(folder)["loss/train"]] == [1, 2, 3, 4]
    same = [(folder / "model.safetensors").read_bytes() for folder in (whole, stopped)]
    assert same[0] == same[1]


def test_a_run_folder_that_is_discarded_takes_its_loggers_along(tmp_path: Path) -> None:
    with logging("csv,tensorboard", tmp_path / "run", []):
        shutil.rmtree(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_without_the_package_the_error_names_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # Python's way to say: not installed
    assert kinds("csv") == ("csv",)
    with pytest.raises(UsageError, match="is not installed") as caught:
        kinds(name)
    assert extras.install(name) in caught.value.hint


# A package of somebody else: what is given to it, it writes down; at epoch `fails` it raises.
THIRD = """if True:
    import json
    class Tracker:
        def __init__(self, folder, settings):
            self.file = open(folder / "third.jsonl", "a")
            self.fails = settings["epochs"] == 4 and 2
            self.write("settings", settings)
        def write(self, what, record):
            print(json.dumps([what, record]), file=self.file, flush=True)
        def add(self, record):
            if record["epoch"] == self.fails:
                raise OSError("the server\\nis away")
            self.write("epoch", record)
        def finish(self, scores):
            self.write("scores", scores)
        def close(self):
            self.write("closed", None)
            self.file.close()
"""


@pytest.fixture
def third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a package that brings the loggers `third` and `broken`, as pip installs one."""
    place = tmp_path / "site"
    (place / "third-1.0.dist-info").mkdir(parents=True)
    (place / "third.py").write_text(THIRD)
    about = place / "third-1.0.dist-info"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[zoo.loggers]\nthird = third:Tracker\nbroken = third:NotThere\n"
    )
    monkeypatch.syspath_prepend(place)
    yield place
    sys.modules.pop("third", None)


def told(run: Path) -> list[tuple[str, Any]]:
    return [tuple(json.loads(line)) for line in (run / "third.jsonl").read_text().splitlines()]


def test_a_package_of_somebody_else_brings_a_logger(
    here: Here, third: Path, photos: Path, tmp_path: Path
) -> None:
    done = here("finetune", "lenet", photos, "--weights", "none", "--no-freeze", "--epochs", 2,
                "--log", "third", "--no-report", "-o", tmp_path / "run")  # fmt: skip
    assert done.code == 0, done.err
    heard = told(tmp_path / "run")
    assert [what for what, _ in heard] == ["settings", "epoch", "epoch", "scores", "closed"]
    assert heard[0][1]["model"] == "lenet"
    assert heard[1][1] == Run.open(tmp_path / "run").metrics()[0]
    assert heard[3][1]["accuracy"] == Run.open(tmp_path / "run").record["results"]["accuracy"]
    names = [path.name for path in photos.rglob("*.*")]
    assert not any(name in (tmp_path / "run" / "third.jsonl").read_text() for name in names)


def test_a_logger_that_fails_is_one_warning_and_stops_nothing(
    here: Here, third: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = here("finetune", "lenet", photos, "--weights", "none", "--no-freeze", "--epochs", 4,
                "--log", "csv,third,broken", "--no-report", "-o", tmp_path / "run")  # fmt: skip
    assert done.code == 0, done.err
    warnings = [one.getMessage() for one in caplog.records if "--log" in one.getMessage()]
    assert len(warnings) == 2, warnings
    assert "--log broken has failed" in warnings[0]
    assert warnings[1].endswith(r"OSError: the server\nis away")
    assert [what for what, _ in told(tmp_path / "run")] == ["settings", "epoch", "closed"]
    assert len(rows(tmp_path / "run")) == 4


@pytest.mark.slow
def test_mlflow_has_settings_epochs_and_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():  # its own, of the libraries that it imports
        warnings.simplefilter("ignore")
        with logging("mlflow", tmp_path / "first", [record(1)], {"lr": 0.1}) as loggers:
            loggers[0].add(record(2))
            loggers[0].finish({"accuracy": 0.75, "classes": []})
        with logging("mlflow", tmp_path / "stopped", [], {}) as loggers:
            loggers[0].add(record(1))
        from mlflow import MlflowClient

        client = MlflowClient()
        (experiment,) = [one for one in client.search_experiments() if one.name == "zoo"]
        found = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
        first = found["first"]
        assert (first.info.status, found["stopped"].info.status) == ("FINISHED", "KILLED")
        assert first.data.params == {"lr": "0.1"}
        assert first.data.metrics["final_accuracy"] == 0.75
        history = client.get_metric_history(first.info.run_id, "val_loss")
    assert [(one.step, one.value) for one in history] == [(1, 2.0), (2, 1.0)]


@pytest.mark.slow
def test_wandb_writes_a_run_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "run").mkdir()
    with warnings.catch_warnings():  # its own
        warnings.simplefilter("ignore")
        with logging("wandb", tmp_path / "run", [record(1)], {"lr": 0.125}) as loggers:
            loggers[0].add(record(2))
            loggers[0].finish({"accuracy": 0.75})
            assert loggers[0].tracker.run.summary["final_accuracy"] == 0.75
        import wandb

        wandb.teardown()  # its process has written all then
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = written.read_bytes()
    assert all(word in content for word in (b"val_loss", b"final_accuracy", b"0.125"))


def test_a_csv_needs_neither_torch_nor_tensorboard(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom zoo.train.loggers import logging\n"
        f"with logging('csv', Path({str(tmp_path)!r}), []) as (one,): one.add({record(1)!r})\n"
        "assert not {'torch', 'tensorboard'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path)) == 1
