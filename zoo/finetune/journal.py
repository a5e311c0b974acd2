"""What a run folder keeps while the work goes on: epochs, checkpoints, time, and why it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace

from zoo.errors import DisagreementError, DiskFull, Interrupted, TeamError, TrainingError
from zoo.finetune import tables
from zoo.finetune.events import Finished, Note
from zoo.run import Run
from zoo.settings import Recipe
from zoo.train import checkpoint
from zoo.train.distributed import Ranks
from zoo.train.loggers import logging
from zoo.train.loop import Loop
from zoo.train.records import Epoch
from zoo.train.trackers import Tracker
from zoo.watch import Watch, postponed, saving

CHECKPOINT = "checkpoint.safetensors"
KEPT = "the features computed so far are kept"


class Journal:
    """Keeps all that the same job needs to go on in its folder. In a team the first process does.

    recipe: says which loggers, and is what they are told. started: when the work began, by
    `time.perf_counter`.
    """

    def __init__(
        self, run: Run, watch: Watch, ranks: Ranks, recipe: Recipe, started: float
    ) -> None:
        self.run, self.watch, self.ranks, self.recipe = run, watch, ranks, recipe
        self.saver = checkpoint.Saver(run.path(CHECKPOINT))
        self.loggers: list[Tracker] = []
        self.until_the_end = ExitStack()
        self.training = False  # in steps, each of which is saved
        self.started = started
        self.before = (0.0, 0.0)  # seconds, and seconds of CPU, of the processes before this one

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Hold the folder; a full disk or a signal ends this process, not the run."""
        if not self.ranks.main:
            yield
            return
        with self.run.held() as held, self._pausing(), self.until_the_end:
            for note in (held.died, checkpoint.settle(self.saver.path)):
                if note:
                    self.watch.tell(Note(note))
            yield

    @contextmanager
    def _pausing(self) -> Iterator[None]:
        try:
            yield
        except (Interrupted, DiskFull) as error:
            if not error.resume:  # as the error of a repetition has
                kept = self.saver.kept
                if isinstance(error, Interrupted):
                    error.what, error.hint = f"interrupted; {kept if self.training else KEPT}", ""
                else:
                    error.what, error.hint = f"{error.what}; {kept}", error.room
                error.resume = self.run.resume
            raise

    @contextmanager
    def failing(self) -> Iterator[None]:
        """A training that diverged cannot be resumed, and its folder says so."""
        try:
            yield
        except TrainingError as error:
            if self.ranks.main:
                checkpoint.remove(self.saver.path)
                self.until_the_end.close()
                self.run.update(status="failed", reason=error.what)
                self.run.discard()
            raise

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """What disagrees with fp32 leaves no run."""
        try:
            yield
        except DisagreementError:
            self.until_the_end.close()
            self.run.path("metrics.jsonl").unlink(missing_ok=True)
            self.run.discard()
            raise

    def finish(self, done: Finished) -> Finished:
        """Write down that the run is complete, and tell it."""
        seconds, cpu_seconds = (round(each, 3) for each in self.spent())
        self.run.update(
            status="finished",
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            evidence={each.kind: asdict(each) for each in done.evidence},
        )
        checkpoint.remove(self.saver.path)
        for logger in self.loggers:
            logger.finish(tables.measured(done.scores) | {"loss": done.scores.loss})
        done = replace(done, seconds=seconds)
        self.watch.tell(done)
        return done

    def spent(self) -> tuple[float, float]:
        """Return seconds, and seconds of CPU, of work by now, in this process and those before."""
        wall, cpu = self.before
        return wall + time.perf_counter() - self.started, cpu + time.process_time()

    # Epochs.

    def begin(self, epochs: int) -> None:
        """Open the logs behind so many epochs; those that come after are done again."""
        self.run.cut_metrics(epochs)
        if not self.loggers and self.ranks.main:
            recipe = self.recipe
            logs = logging(recipe.log, self.run.folder, self.run.metrics(), recipe.record())
            self.loggers = self.until_the_end.enter_context(logs)

    def log(self, epoch: Epoch) -> None:
        """Write an epoch down, and tell it."""
        record = asdict(epoch)
        self.run.log(record)
        for logger in self.loggers:
            logger.add(record)
        self.watch.tell(epoch)

    # Checkpoints.

    def phase(self) -> int:
        """Return the number of the phase to go on with, for all processes."""
        path = self.saver.path
        (begin,) = self.ranks.broadcast(checkpoint.phase_of(path) if self.ranks.main else 0)
        return int(begin)

    def follow(self, loop: Loop, number: int, before: Loop | None) -> None:
        """Put a loop where the one before has ended, or to its checkpoint where there is one."""
        if before is not None:
            loop.follow(before, number)
            self.save(loop)
        elif any(self.ranks.broadcast(self.saver.path.exists())):
            self.saver.load(loop)
            self.before = (loop.state.seconds, loop.state.cpu_seconds)
        self.begin(loop.state.epoch - 1)

    @contextmanager
    def saving(self, loop: Loop) -> Iterator[None]:
        """Nothing is lost by a signal, or by another process's death: the state is of a step."""
        self.training = True
        try:
            with nullcontext() if self.ranks.single else postponed():
                yield
        except (Interrupted, TeamError):
            self.save(loop)
            raise
        self.training = False

    def save_if_due(self, loop: Loop) -> None:
        """Write a checkpoint where the last one is old."""
        if self.saver.due():
            self.save(loop)

    def save(self, loop: Loop) -> None:
        """Write a checkpoint. Raises WriteError, and RunError where another works in the folder."""
        if not self.ranks.main:
            return
        self.run.must_be_held()
        loop.state.seconds, loop.state.cpu_seconds = self.spent()
        with saving():
            self.saver.save(loop)
