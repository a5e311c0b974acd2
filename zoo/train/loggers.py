"""Loggers beside metrics.jsonl: metrics.csv, and event files that TensorBoard reads.

What they write follows from metrics.jsonl alone: a logger that is opened writes the epochs that
are there anew and goes on behind them, so a resumed run has each epoch once, and a killed one
loses none that metrics.jsonl has. Those of other programs are in trackers.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zoo import extras
from zoo.disk import atomic, writing
from zoo.errors import UsageError
from zoo.text import csv_line
from zoo.train import trackers
from zoo.train.trackers import Record, Tracker

KINDS = ("csv", "tensorboard")
EVENTS = "events.out.tfevents.*"
TAGS = {"train_loss": "loss/train", "val_loss": "loss/val", "lr": "rate", "seconds": "seconds"}


def kinds(log: str | None) -> tuple[str, ...]:
    """Return `csv,tensorboard` as ("csv", "tensorboard"); called before anything is computed.

    Imports nothing. Raises UsageError, also for a missing package.
    """
    names = tuple(dict.fromkeys(word.strip() for word in log.split(","))) if log else ()
    others = [name for name in names if name not in KINDS]
    if unknown := [name for name in others if name not in trackers.names()]:
        raise UsageError(
            f"log = '{log}': there is no logger '{unknown[0]}'",
            f"give {', '.join((*KINDS, *trackers.names()))}, or several as csv,tensorboard; "
            "metrics.jsonl is always written",
        )
    for name in ("tensorboard", *trackers.OURS):
        if name in names:
            extras.need(f"--log {name}", name, instead="or --log csv")
    return names


@contextmanager
def logging(
    log: str | None, folder: Path, done: Sequence[Record], settings: Record | None = None
) -> Iterator[list[Tracker]]:
    """Give a run folder's loggers. done: the lines of metrics.jsonl that a resumed run keeps.

    settings: of the recipe.
    """
    loggers: list[Tracker] = []
    try:
        for name in kinds(log):
            if name in KINDS:
                make = CsvLogger if name == "csv" else TensorBoardLogger
                loggers.append(make(folder, done))
            else:
                loggers.append(trackers.Guarded(name, folder, settings or {}, done))
        yield loggers
    finally:
        for logger in loggers:
            logger.close()


class CsvLogger:
    """RUN/metrics.csv: a line for each epoch, its columns as metrics.jsonl names them."""

    def __init__(self, folder: Path, done: Sequence[Record]) -> None:
        self.path = folder / "metrics.csv"
        self.columns = list(dict.fromkeys(name for record in done for name in record))
        if done:
            with atomic(self.path) as file:
                lines = [csv_line(self.columns), *map(self.line, done)]
                file.write("".join(lines).encode())
        else:
            with writing(self.path):
                self.path.unlink(missing_ok=True)

    def add(self, record: Record) -> None:
        header = "" if self.columns else csv_line(record)
        self.columns = self.columns or list(record)
        with writing(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(header + self.line(record))

    def line(self, record: Record) -> str:
        """Return a row of the table; a list, as that of the notes, becomes `a; b`."""
        values = [record.get(name) for name in self.columns]
        return csv_line(
            "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
            for value in values
        )

    def finish(self, scores: Record) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoardLogger:
    """RUN/tensorboard: a scalar of each number, at its epoch."""

    def __init__(self, folder: Path, done: Sequence[Record]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder / "tensorboard"
        with writing(self.folder):
            for old in self.folder.glob(EVENTS):
                old.unlink()
            self.writer = SummaryWriter(str(self.folder))
        for record in done:
            self.add(record)

    def add(self, record: Record) -> None:
        with writing(self.folder):
            for name, value in trackers.numbers(record).items():
                self.writer.add_scalar(TAGS.get(name, name), value, record["epoch"])
            self.writer.flush()

    def finish(self, scores: Record) -> None:
        pass

    def close(self) -> None:
        with writing(self.folder):
            self.writer.close()
