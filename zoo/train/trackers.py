"""Trackers: loggers of other programs, and those that an installed package brings.

A package brings one by an entry point of the group `zoo.loggers`. Its name is what `--log` takes,
and it names a function of a run's folder and its settings that returns a Tracker. A run that is
resumed begins anew there, with all its epochs. None is told the name of a photo.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zoo import disk
from zoo.text import one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Record = Mapping[str, object]


class Tracker(Protocol):
    def add(self, record: Record) -> None:
        """Take an epoch, as a line of metrics.jsonl has it. Raises WriteError."""

    def finish(self, scores: Record) -> None:
        """Take the final scores, as run.json has them. Not called of a run that ends before."""

    def close(self) -> None: ...


Make = Callable[[Path, Record], Tracker]


def names() -> tuple[str, ...]:
    """Return what `--log` takes besides csv and tensorboard; imports none of them."""
    return (*OURS, *(name for name in _brought() if name not in OURS))


def numbers(record: Record) -> dict[str, float]:
    """Return what can be drawn as a curve."""
    return {
        name: value
        for name, value in record.items()
        if name != "epoch" and isinstance(value, int | float) and not isinstance(value, bool)
    }


class Guarded:
    """A tracker that stops no training: its first error is a warning, and its end."""

    def __init__(self, name: str, folder: Path, settings: Record, done: Sequence[Record]) -> None:
        self.name = name
        self.tracker: Tracker | None = None
        with self._guarding():
            self.tracker = _make(name)(folder, settings)
        for record in done:
            self.add(record)

    def add(self, record: Record) -> None:
        with self._guarding():
            if self.tracker:
                self.tracker.add(record)

    def finish(self, scores: Record) -> None:
        with self._guarding():
            if self.tracker:
                self.tracker.finish(scores)

    def close(self) -> None:
        tracker, self.tracker = self.tracker, None
        with self._guarding():
            if tracker:
                tracker.close()

    @contextmanager
    def _guarding(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a program that is not ours
            failed, self.tracker = self.tracker, None
            with suppress(Exception):
                if failed:
                    failed.close()
            said = one_line(f"{type(error).__name__}: {error}")[:200]
            disk.warn(f"--log {self.name} has failed and gets no more of this run: {said}")


def _make(name: str) -> Make:
    if name in OURS:
        return OURS[name]
    make: Make = _brought()[name].load()
    return make


def _brought() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {one.name: one for one in entry_points(group="zoo.loggers")}


class _Mlflow:
    """A run of MLflow, in the experiment MLFLOW_EXPERIMENT_NAME, at MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, settings: Record) -> None:
        from mlflow import MlflowClient

        self.client, self.status, self.epoch = MlflowClient(), "KILLED", 0
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "zoo")
        found = self.client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self.client.create_experiment(name)
        self.run = self.client.create_run(experiment, run_name=folder.name).info.run_id
        for key, value in settings.items():
            self.client.log_param(self.run, key, value)

    def add(self, record: Record) -> None:
        self.epoch = int(str(record["epoch"]))
        self._log(numbers(record))

    def finish(self, scores: Record) -> None:
        self._log({f"final_{name}": value for name, value in numbers(scores).items()})
        self.status = "FINISHED"

    def _log(self, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, self.epoch) for name, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self) -> None:
        self.client.set_terminated(self.run, self.status)


class _Wandb:
    """A run of Weights & Biases, in the project WANDB_PROJECT; WANDB_MODE says whether offline."""

    def __init__(self, folder: Path, settings: Record) -> None:
        import wandb

        quiet = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False)
        self.run = wandb.init(project=os.environ.get("WANDB_PROJECT", "zoo"), name=folder.name,
                              dir=str(folder), config=dict(settings), settings=quiet)  # fmt: skip
        self.exit_code = 1

    def add(self, record: Record) -> None:
        self.run.log(numbers(record), step=int(str(record["epoch"])))

    def finish(self, scores: Record) -> None:
        self.run.summary.update({f"final_{k}": v for k, v in numbers(scores).items()})
        self.exit_code = 0

    def close(self) -> None:
        self.run.finish(exit_code=self.exit_code)


OURS: dict[str, Make] = {"mlflow": _Mlflow, "wandb": _Wandb}
