"""One fine-tune from a Recipe to a finished run folder; yields what happens, prints nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo import __version__, weights
from zoo.data.index import DatasetIndex
from zoo.errors import (
    DisagreementError,
    DiskFull,
    Interrupted,
    TeamError,
    TrainingError,
)
from zoo.finetune import repeats
from zoo.finetune.events import Event, Finished, Note, Watch
from zoo.finetune.fit import scores_on, settings_of, solve_head, solve_only
from zoo.finetune.inputs import AnyBatches, Gather
from zoo.finetune.plan import Plan
from zoo.finetune.repeats import initial
from zoo.finetune.results import (
    agreeing,
    agreement_with_fp32,
    calibrated,
    confidence,
    pca,
    save_head,
    write_results,
    write_test,
)
from zoo.models.cut import first_layer
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.train import checkpoint
from zoo.train.batches import FeatureBatches
from zoo.train.distributed import SINGLE, Ranks
from zoo.train.loggers import Logger, logging
from zoo.train.loop import Loop
from zoo.train.records import Epoch, Scores
from zoo.watch import postponed, saving

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT = "checkpoint.safetensors"
KEPT = "the features computed so far are kept"


class Job:
    """Carries out a Plan in a run folder.

    All ranks do, and see the same events; the main one alone writes to the folder.
    """

    def __init__(self, plan: Plan, run: Run, watch: Watch, ranks: Ranks = SINGLE) -> None:
        self.plan, self.run, self.watch, self.ranks = plan, run, watch, ranks
        self.recipe: Recipe = plan.recipe
        self.gather = Gather(plan, run, watch, ranks)
        self.saver = checkpoint.Saver(run.path(CHECKPOINT))
        self.initial = initial(plan)
        self.open = ExitStack()
        self.loggers: list[Logger] = []
        self.training = False  # in steps, each of which is saved
        self.before = (0.0, 0.0)  # seconds, and seconds of CPU, of the processes before this one

    @property
    def index(self) -> DatasetIndex:
        """Without the photos that cannot be read."""
        return self.gather.index

    def events(self) -> Iterator[Event]:
        """Runs to the end, or raises Interrupted with everything kept that a resume needs."""
        self.started = time.perf_counter()
        if not self.ranks.main:
            yield from self.phases()
            return
        with self.run.held() as held, self.pausing(), self.open:
            for note in (held.died, checkpoint.settle(self.run.path(CHECKPOINT))):
                if note:
                    yield Note(note)
            yield from self.phases()

    def phases(self) -> Iterator[Event]:
        if self.plan.alone:
            yield from self.alone()
            return
        loop: Loop | None = None
        test: Scores | None = None
        path = self.run.path(CHECKPOINT)
        (begin,) = self.ranks.broadcast(checkpoint.phase_of(path) if self.ranks.main else 0)
        for number in range(int(begin), len(self.plan.phases)):
            phase = self.plan.phases[number]
            source = yield from self.gather.source(phase)
            loop = self.loop(number, source, loop)
            if phase.solved:
                yield self.solve(loop)
            else:
                with self.failing():
                    yield from self.train(loop)
                if phase is not self.plan.phases[-1]:  # the next begins with a pass over photos
                    self.save(loop)
                loop.restore_best()
            scores = loop.evaluate()
            if phase is self.plan.phases[-1]:
                test = loop.test_scores()
            self.fold(loop.model)
        assert loop is not None
        if not self.ranks.main:
            return
        yield from self.finish(loop, scores, test)
        self.remember()

    def alone(self) -> Iterator[Event]:
        """The same without torch; what disagrees with fp32 leaves no run."""
        try:
            yield from self.solved_only()
        except DisagreementError:
            self.open.close()
            self.run.path("metrics.jsonl").unlink(missing_ok=True)
            self.run.discard()
            raise
        self.remember()

    def solved_only(self) -> Iterator[Event]:
        """A solved head is all there is: from kept features to a finished run, without torch."""
        plan = self.plan
        source = yield from self.gather.source(plan.phases[0])
        assert isinstance(source, FeatureBatches)
        if not self.ranks.main:
            return
        self.run.cut_metrics(0)
        self.open_logs()
        found, epoch = solve_only(plan, source, self.gather)
        self.log(epoch)
        yield epoch
        weight, bias, scores = found.weight, found.bias, found.scores
        outputs, on_test, val = scores.outputs, source.on_test(), self.index.of("val")
        assert outputs is not None
        agreement = agreeing(plan, self.gather, val, weight, bias, outputs)
        why_not = "" if plan.recipe.calibrate else "--no-calibrate"
        calibration = confidence(self.run, val, outputs, plan.recipe.seed, why_not)
        divisor = np.float32(calibration.temperature)
        save_head(plan, self.gather.prefix, self.run, weight / divisor, bias / divisor)
        self.run.update(linear_head=plan.head)
        done = Finished(scores, None, 1, agreement, 0.0, calibration)
        if on_test:
            test = scores_on(on_test, weight, bias, self.index.classes)
            done = replace(done, test=write_test(self.run, self.index, test, calibration))
        yield from self.conclude(done)

    def remember(self) -> None:
        """What the next run need not find out with torch."""
        from zoo.finetune.results import remember

        plan, ready = self.plan, self.gather.prefix
        new = plan.known is None and plan.recipe.head == "linear" and len(plan.phases) == 1
        if new and self.ranks.single and ready and ready.compiled:
            remember(plan)

    def spent(self) -> tuple[float, float]:
        """Seconds, and seconds of CPU, of work until now, in this process and those before."""
        wall, cpu = self.before
        return wall + time.perf_counter() - self.started, cpu + time.process_time()

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """A full disk or a signal ends this process, not the run."""
        try:
            yield
        except Interrupted as error:
            if not error.resumable:  # as that of a repetition is
                kept = self.saver.kept if self.training else KEPT
                error.what, error.resumable = f"interrupted; {kept}", True
                error.hint = f"`zoo finetune --resume {self.run.folder}` finishes it"
            raise
        except DiskFull as error:
            room = error.hint.partition(", then `zoo ")[0]  # of a repetition, said already
            room = room.removesuffix(", or choose another place")
            resume = f"`zoo finetune --resume {self.run.folder}` goes on"
            raise DiskFull(f"{error.what}; {self.saver.kept}", f"{room}, then {resume}") from error

    @contextmanager
    def failing(self) -> Iterator[None]:
        """A training that diverged cannot be resumed, and its folder says so."""
        try:
            yield
        except TrainingError as error:
            if not self.ranks.main:
                raise
            checkpoint.remove(self.run.path(CHECKPOINT))
            self.open.close()
            self.run.update(status="failed", reason=error.what)
            self.run.discard()
            raise

    # The trained part.

    def loop(self, number: int, source: AnyBatches, before: Loop | None) -> Loop:
        """The training of a phase: from its checkpoint, or from where the one before has ended."""
        import torch

        plan, phase = self.plan, self.plan.phases[number]
        torch.set_num_threads(plan.threads)
        settings = settings_of(plan, phase, self.index, self.gather.class_weights)
        if phase.parts is None:
            plan.chain.requires_grad_(True)
        model = plan.training_chain if phase.parts is None else phase.parts.trainable
        loop = Loop(model, source, settings, plan.device.torch, self.ranks)
        path = self.run.path(CHECKPOINT)
        if before is not None:
            loop.follow(before, number)
            self.save(loop)
        elif any(self.ranks.broadcast(path.exists())):
            self.saver.load(loop)
            self.before = (loop.state.seconds, loop.state.cpu_seconds)
        self.run.cut_metrics(loop.state.epoch - 1)
        self.open_logs()
        return loop

    def open_logs(self) -> None:
        if not self.loggers and self.ranks.main:
            self.loggers = self.open.enter_context(
                logging(self.recipe.log, self.run.folder, self.run.metrics())
            )

    def solve(self, loop: Loop) -> Epoch:
        """The head's optimum, in the place of an epoch."""
        started = time.perf_counter()
        note = solve_head(self.plan, loop, self.gather) if self.ranks.main else ""
        self.ranks.broadcast_model(loop.model)
        epoch = loop.solved(note, started)
        self.log(epoch)
        return epoch

    def train(self, loop: Loop) -> Iterator[Event]:
        what, total = f"epochs to {loop.settings.epochs}", loop.steps_per_epoch * loop.count

        def after_step(step: int, steps: int) -> None:
            self.watch.progress(what, loop.done(), total)
            self.gather.stop_if_asked(int(self.ranks.all_reduce_max(self.watch.signal)))
            if self.saver.due():
                self.save(loop)

        with self.saving(loop):
            for epoch in loop.run(after_step):
                self.log(epoch)
                yield epoch
        if ended := loop.ended():
            yield Note(ended)

    def log(self, epoch: Epoch) -> None:
        record = epoch.to_dict()
        self.run.log(record)
        for logger in self.loggers:
            logger.add(record)

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

    def save(self, loop: Loop) -> None:
        if not self.ranks.main:
            return
        self.run.must_be_held()
        loop.state.seconds, loop.state.cpu_seconds = self.spent()
        with saving():
            self.saver.save(loop)

    def fold(self, model: nn.Module) -> None:
        """The head takes features as they are from here on."""
        if self.gather.scaling is not None:
            self.gather.scaling.fold(first_layer(model))  # type: ignore[arg-type]
            self.gather.scaling = None

    # The end.

    def finish(self, loop: Loop, scores: Scores, test: Scores | None) -> Iterator[Event]:
        agreement, baseline, calibration = None, None, None
        if scores.outputs is not None:
            calibration = calibrated(self.plan, self.run, self.index, loop, scores.outputs)
        about = {"zoo": __version__, "model": self.recipe.model}
        weights.save(self.plan.chain.state_dict(), self.run.path("model.safetensors"), about)
        if self.plan.device.precision != "fp32":
            agreement = agreement_with_fp32(self.plan, self.index, self.run)
        if self.recipe.task == "reconstruct":
            baseline = pca(self.plan, loop.batches)
        progress = loop.state
        tested = write_test(self.run, self.index, test, calibration) if test else None
        found = Finished(
            scores, baseline, progress.best_epoch, agreement, 0.0, calibration, test=tested
        )
        yield from self.conclude(found, skipped=progress.skipped)

    def conclude(self, done: Finished, skipped: int = 0) -> Iterator[Event]:
        """Writes the results; then the repetitions, and the end."""
        write_results(self.run, done)
        self.run.update(
            model_sha256=weights.hash_of(self.run.path("model.safetensors")),
            best_epoch=done.best_epoch,
            skipped_steps=skipped,
            agreement_with_fp32=done.agreement,
        )
        found = []
        for item in repeats.repeat(self.repeated(), self.initial):
            if isinstance(item, str):
                yield Note(item)
            else:
                found.append(item)
        seconds, cpu_seconds = self.spent()
        self.run.update(
            status="finished",
            seconds=round(seconds, 3),
            cpu_seconds=round(cpu_seconds, 3),
            evidence=repeats.record_of(found),
        )
        checkpoint.remove(self.saver.path)
        yield replace(done, seconds=seconds, evidence=tuple(found))

    def repeated(self) -> repeats.Repeated:
        """What a repetition needs to know, and how one is carried out."""

        def carry_out(plan: Plan, run: Run) -> None:
            list(Job(plan, run, self.watch).events())

        return repeats.Repeated(self.plan, self.run, self.index, self.gather.digests, carry_out)
