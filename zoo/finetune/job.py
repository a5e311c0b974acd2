"""One fine-tune from a Recipe to a finished run folder; yields what happens, prints nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import __version__, weights
from zoo import recipe as recipes
from zoo.data.index import DatasetIndex
from zoo.disk import replacing, writing
from zoo.errors import (
    DisagreementError,
    DiskFull,
    Interrupted,
    RunError,
    TeamError,
    TrainingError,
)
from zoo.finetune import checkpoint
from zoo.finetune.digests import digest_of
from zoo.finetune.events import Event, Finished, Note, Watch
from zoo.finetune.evidence import initial
from zoo.finetune.finish import calibrated, conclude, pca
from zoo.finetune.gather import AnySource, Gather
from zoo.finetune.heads import solve_head
from zoo.finetune.loggers import Logger, logging
from zoo.finetune.loop import Epoch, Loop
from zoo.finetune.plan import Plan
from zoo.finetune.results import agreement_with_fp32, write_test
from zoo.finetune.scale import first_layer
from zoo.finetune.settings import settings_of
from zoo.finetune.tasks import Scores
from zoo.finetune.team import ALONE, Team
from zoo.recipe import Recipe
from zoo.run import Run, Seen, launch
from zoo.watch import postponed, saving

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT = "checkpoint.safetensors"
KEPT = "the features computed so far are kept"


class Job:
    """Carries out a Plan in a run folder.

    In a team all processes do, and see the same events; the first one alone writes to the folder.
    """

    def __init__(self, plan: Plan, run: Run, watch: Watch, team: Team = ALONE) -> None:
        self.plan, self.run, self.watch, self.team = plan, run, watch, team
        self.recipe: Recipe = plan.recipe
        self.gather = Gather(plan, run, watch, team)
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
        if not self.team.first:
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
        (begin,) = self.team.from_first(checkpoint.phase_of(path) if self.team.first else 0)
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
        if not self.team.first:
            return
        yield from self.finish(loop, scores, test)
        self.remember()

    def alone(self) -> Iterator[Event]:
        """A solved head is all there is: no torch."""
        from zoo.finetune.alone import solve_alone

        try:
            yield from solve_alone(self)
        except DisagreementError:
            self.open.close()
            self.run.path("metrics.jsonl").unlink(missing_ok=True)
            self.run.discard()
            raise
        self.remember()

    def remember(self) -> None:
        """What the next run need not find out with torch."""
        from zoo.finetune.known import remember

        plan, ready = self.plan, self.gather.prefix
        new = plan.known is None and plan.recipe.head == "linear" and len(plan.phases) == 1
        if new and self.team.alone and ready and ready.compiled:
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
            if not self.team.first:
                raise
            checkpoint.remove(self.run.path(CHECKPOINT))
            self.open.close()
            self.run.update(status="failed", reason=error.what)
            self.run.discard()
            raise

    # The trained part.

    def loop(self, number: int, source: AnySource, before: Loop | None) -> Loop:
        """The training of a phase: from its checkpoint, or from where the one before has ended."""
        import torch

        plan, phase = self.plan, self.plan.phases[number]
        torch.set_num_threads(plan.threads)
        settings = settings_of(plan, phase, self.index, self.gather.class_weights)
        if phase.parts is None:
            plan.chain.requires_grad_(True)
        model = plan.training_chain if phase.parts is None else phase.parts.trainable
        loop = Loop(model, source, settings, plan.device.torch, self.team)
        path = self.run.path(CHECKPOINT)
        if before is not None:
            loop.follow(before, number)
            self.save(loop)
        elif any(self.team.from_first(path.exists())):
            self.saver.load(loop)
            self.before = (loop.progress.seconds, loop.progress.cpu_seconds)
        self.run.cut_metrics(loop.progress.epoch - 1)
        self.open_logs()
        return loop

    def open_logs(self) -> None:
        if not self.loggers and self.team.first:
            self.loggers = self.open.enter_context(
                logging(self.recipe.log, self.run.folder, self.run.metrics())
            )

    def solve(self, loop: Loop) -> Epoch:
        """The head's optimum, in the place of an epoch."""
        started = time.perf_counter()
        note = solve_head(self.plan, loop, self.gather) if self.team.first else ""
        self.team.spread(loop.model)
        epoch = loop.solved(note, started)
        self.log(epoch)
        return epoch

    def train(self, loop: Loop) -> Iterator[Event]:
        what, total = f"epochs to {loop.settings.epochs}", loop.steps_per_epoch * loop.count

        def after_step(step: int, steps: int) -> None:
            self.watch.progress(what, loop.done(), total)
            self.gather.stop_if_asked(int(self.team.most(self.watch.signal)))
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
            with nullcontext() if self.team.alone else postponed():
                yield
        except (Interrupted, TeamError):
            self.save(loop)
            raise
        self.training = False

    def save(self, loop: Loop) -> None:
        if not self.team.first:
            return
        self.run.must_be_held()
        loop.progress.seconds, loop.progress.cpu_seconds = self.spent()
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
            calibration = calibrated(self, loop, scores.outputs)
        about = {"zoo": __version__, "model": self.recipe.model}
        weights.save(self.plan.chain.state_dict(), self.run.path("model.safetensors"), about)
        if self.plan.device.precision != "fp32":
            agreement = agreement_with_fp32(self.plan, self.index, self.run)
        if self.recipe.task == "reconstruct":
            baseline = pca(self, loop.source)
        progress = loop.progress
        tested = write_test(self.run, self.index, test, calibration) if test else None
        found = Finished(
            scores, baseline, progress.best_epoch, agreement, 0.0, calibration, test=tested
        )
        yield from conclude(self, found, skipped=progress.skipped)


def start(plan: Plan, folder: Path, watch: Watch, team: Team = ALONE) -> Job:
    """A new run folder for this plan. Raises RunError where it exists."""
    if not team.first:
        return Job(plan, Seen(folder, plan.record()), watch, team)
    of_team = {"processes": team.world, "launch": launch()} if launch() else {}
    with Run.creating(folder, {**plan.record(), **of_team}) as run:
        with replacing(run.path("recipe.toml")) as file, writing(file):
            resumable(plan).save(file)
        run.save_index(plan.index)
    return Job(plan, run, watch, team)


def resumable(plan: Plan) -> Recipe:
    """The recipe with paths that hold in any working directory."""
    paths: dict[str, Any] = {"data": str(plan.index.source.absolute())}
    if plan.index.source != Path(plan.recipe.data):  # a data set by its name
        paths = {}
    if plan.start.origin["tag"] in ("file", "run"):
        paths["weights"] = plan.start.origin["file"]
    return replace(plan.recipe, **paths | {"optimizer": plan.solver})


def recipe_of(run: Run) -> Recipe:
    """The recipe of an unfinished run; as many features are kept as when it began.

    A run from before there was a test part in it has the same photos in val as it began with.
    """
    recipe = recipes.make({}, run.path("recipe.toml"))
    if "test" not in run.record["data"]:
        return replace(recipe, keep_duplicates=True)
    room = run.record.get("feature_bytes")
    return recipe if room is None else replace(recipe, cache_budget=f"{room}B")


def resume(plan: Plan, run: Run, watch: Watch, team: Team = ALONE) -> Job:
    """The same job again in its folder. Raises RunError where photos or weights have changed."""
    before = run.begun().record
    index = plan.index if "test" in before["data"] else plan.index.without_test()
    if before["data"]["fingerprint"] != index.fingerprint:
        raise RunError(
            f"the photos in {plan.index.root} have changed since {run.folder} began"
            f"{difference(index, run)}",
            "put back what was there, or start a new run: cached features make it quick",
        )
    if before["weights_sha256"] != plan.weights_sha256:
        raise RunError(
            f"the weights that {run.folder} started from have changed", "start a new run"
        )
    job = Job(plan, run if team.first else Seen(run.folder, before), watch, team)
    job.gather.before = run.contents()
    return job


def difference(index: DatasetIndex, run: Run) -> str:
    """Return which photo is not as the run has it, in words; or nothing where none can be told."""
    there = {row["path"]: row for row in run.index()}
    now = {sample.path: sample for sample in index.samples}
    left_out, unreadable = dict(index.skipped), run.left_out()
    for path in there.keys() - now.keys():
        return f": {path} is {left_out.get(path, 'not among them any more')}"
    for path, sample in now.items():
        row = there.get(path)
        if row is None and path not in unreadable:
            return f": {path} is new"
        if row and row["split"] != sample.split:
            return f": {path} was in {row['split']} and is in {sample.split}"
        if row and row["label"] != index.named(sample):
            return f": {path} was '{row['label']}' and is '{index.named(sample)}'"
    for path, digest in run.contents().items():
        if digest_of(index.root / path) != digest:
            return f": {path} has other content"
    return ""
