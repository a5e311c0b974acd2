"""One fine-tune from a Recipe to a finished run folder; yields what happens, prints nothing."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__, weights
from zoo.catalog import Preprocess
from zoo.data.index import DatasetIndex, Sample
from zoo.device import Device
from zoo.disk import writing
from zoo.engine.torch import TorchEngine
from zoo.errors import DataError, Interrupted, RunError, TrainingError
from zoo.finetune import checkpoint
from zoo.finetune.cache import FeatureCache, fingerprint
from zoo.finetune.choices import balancing
from zoo.finetune.cut import Cut
from zoo.finetune.events import Event, FeaturesDone, Finished, Watch
from zoo.finetune.features import Pass, Views, compute
from zoo.finetune.loop import Epoch, Loop
from zoo.finetune.plan import Plan, settings_of
from zoo.finetune.reconstruction import Baseline, baseline, code_width
from zoo.finetune.results import agreement_with_fp32, write_tables
from zoo.finetune.scale import ScaledFeatures, Scaling, first_layer
from zoo.finetune.sources import FeatureSource, PhotoSource
from zoo.finetune.tasks import Scores
from zoo.metrics import Array
from zoo.recipe import Recipe
from zoo.run import Run

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 30


class Job:
    """Carries out a Plan in a run folder."""

    def __init__(self, plan: Plan, run: Run, watch: Watch) -> None:
        self.plan, self.run, self.watch = plan, run, watch
        self.recipe: Recipe = plan.recipe
        self.index: DatasetIndex = plan.index
        self.cut: Cut | None = plan.cut
        self.device: Device = plan.device
        self.preprocess: Preprocess = plan.preprocess
        self.scaling: Scaling | None = None
        self.class_weights = plan.class_weights
        self.before = (0.0, 0.0)  # seconds, and seconds of CPU, of the processes before this one

    def events(self) -> Iterator[Event]:
        """Runs to the end, or raises Interrupted with everything kept that a resume needs."""
        self.started = time.perf_counter()
        if self.cut is not None:
            source: FeatureSource | PhotoSource = yield from self.feature_source(self.cut)
        else:
            source = yield from self.photo_source()
        loop = self.loop(source)
        with self.failing():
            yield from self.train(loop)
        loop.restore_best()
        result = loop.evaluate()
        self.fold(loop.model)
        agreement = None
        if self.device.precision != "fp32":
            agreement = agreement_with_fp32(self.plan, self.index)
        baseline = self.pca(source) if self.recipe.task == "reconstruct" else None
        self.finish(loop, result, agreement, baseline)
        seconds, _ = self.spent()
        yield Finished(result, baseline, loop.progress.best_epoch, agreement, seconds)

    def spent(self) -> tuple[float, float]:
        """Seconds, and seconds of CPU, of work until now, in this process and those before."""
        wall, cpu = self.before
        return wall + time.perf_counter() - self.started, cpu + time.process_time()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """A training that diverged cannot be resumed, and its folder says so."""
        try:
            yield
        except TrainingError as error:
            self.run.path(CHECKPOINT).unlink(missing_ok=True)
            self.run.update(status="failed", reason=error.what)
            self.run.discard()
            raise

    def pca(self, source: FeatureSource | PhotoSource) -> Baseline | None:
        """What principal components do with a code as long as the network's."""
        assert isinstance(source, PhotoSource)
        width = code_width(self.plan.chain, self.plan.start.spec)
        return baseline(source.pixels_of("train"), source.pixels_of("val"), width)

    # The features, once.

    def feature_source(self, cut: Cut) -> Generator[Event, None, FeatureSource]:
        started = time.perf_counter()
        train_views = Views(tuple(range(self.plan.views)), self.recipe.seed, self.recipe.flip)
        splits = {"train": train_views, "val": Views()}
        work = [(sample, splits[sample.split]) for sample in self.index.samples]
        engine = TorchEngine(cut.frozen, self.preprocess, self.device)
        cache = self.cache(cut, engine)
        found = compute(cache, engine, self.preprocess, self.index.root, work, self.progress)
        yield from self.scanned(found, started)
        train, val = self.index.of("train"), self.index.of("val")
        keys = [key for sample in train for key in found.keys[sample.path]]
        features = cache.rows(keys)
        val_features = cache.rows([found.keys[sample.path][0] for sample in val])
        if self.plan.scales:
            self.scaling = Scaling.of(features)
            features = ScaledFeatures(features, self.scaling)
            val_features = ScaledFeatures(val_features, self.scaling)
        labels = np.repeat(labels_of(train), self.plan.views)
        return FeatureSource(features, labels, val_features, labels_of(val), self.device)

    def cache(self, cut: Cut, engine: TorchEngine) -> FeatureCache:
        key = fingerprint(cut.frozen, self.recipe.model, self.preprocess, engine)
        about = {
            "model": self.recipe.model,
            "after": cut.boundary,
            "engine": engine.name,
            "preprocess": self.preprocess.to_dict(),
        }
        return FeatureCache(weights.cache_folder() / "features" / key[:32], about)

    def progress(self, done: int, total: int) -> None:
        self.watch.progress("features", done, total)
        self.stop_if_asked("the features computed so far are kept")

    def stop_if_asked(self, kept: str) -> None:
        if self.watch.signal:
            raise Interrupted(
                f"interrupted; {kept}",
                f"`zoo finetune --resume {self.run.folder}` finishes it",
                self.watch.signal,
            )

    def scanned(self, found: Pass, started: float) -> Iterator[Event]:
        """Leaves the unreadable photos out and writes the index down."""
        try:
            self.index = self.index.without(found.bad)
            if not self.index.of("val"):
                reason = next(iter(found.bad.values()))
                raise DataError(f"no photo for validation can be read ({reason})", "replace them")
        except DataError:
            self.run.discard()
            raise
        self.run.save_index(self.index)
        balance = self.balanced_anew() if found.bad else ""
        counts = {split: len(self.index.of(split)) for split in ("train", "val")}
        self.run.update(data={**self.run.record["data"], **counts})
        views = sum(len(keys) for keys in found.keys.values())
        seconds = time.perf_counter() - started
        yield FeaturesDone(found.computed, views - found.computed, seconds, found.bad, balance)

    def balanced_anew(self) -> str:
        """The weights of the classes without the unreadable photos; says so where it matters."""
        kind, self.class_weights, why = balancing(self.recipe, self.index)
        self.run.update(balance=[kind, why])
        return f"balance is {kind} now: {why}" if kind != self.plan.balance else ""

    # Or the photos, in every epoch.

    def photo_source(self) -> Generator[Event, None, PhotoSource]:
        """Decodes every photo once as the scan; where views are plain, that is also the last."""
        from zoo.finetune.scan import scan_photos

        started = time.perf_counter()
        found, digests, plain = scan_photos(
            self.index, self.preprocess, keep_train=self.plan.views == 1, progress=self.progress
        )
        yield from self.scanned(found, started)

        def photos(samples: tuple[Sample, ...]) -> list[tuple[str, int, bytes]]:
            return [(s.path, s.label, digests[s.path]) for s in samples]

        source = PhotoSource(
            self.index.root,
            photos(self.index.of("train")),
            photos(self.index.of("val")),
            self.preprocess,
            self.device,
            views=self.plan.views,
            seed=self.recipe.seed,
            flip=self.recipe.flip,
            distortion=(self.recipe.distort, self.recipe.distort_strength),
        )
        source.plain = plain
        return source

    # The trained part.

    def loop(self, source: FeatureSource | PhotoSource) -> Loop:
        import torch

        torch.set_num_threads(self.plan.threads)
        settings = settings_of(self.plan, self.index, self.class_weights)
        model = self.plan.training_chain if self.cut is None else self.cut.trainable
        loop = Loop(model, source, settings, self.device.torch)
        path = self.run.path(CHECKPOINT)
        if path.exists():
            checkpoint.load(loop, path)
            self.before = (loop.progress.seconds, loop.progress.cpu_seconds)
        self.run.cut_metrics(loop.progress.epoch - 1)
        return loop

    def train(self, loop: Loop) -> Iterator[Epoch]:
        saved = time.monotonic()

        def after_step(step: int, steps: int) -> None:
            nonlocal saved
            self.watch.progress(f"epoch {loop.progress.epoch}", step, steps)
            if self.watch.signal or time.monotonic() - saved > CHECKPOINT_SECONDS:
                loop.progress.seconds, loop.progress.cpu_seconds = self.spent()
                checkpoint.save(loop, self.run.path(CHECKPOINT))
                saved = time.monotonic()
            self.stop_if_asked(f"epoch {loop.progress.epoch}, step {step} of {steps} is saved")

        for epoch in loop.run(after_step):
            self.run.log(epoch.to_dict())
            yield epoch

    def fold(self, model: nn.Module) -> None:
        """The head takes features as they are from here on."""
        if self.scaling is not None:
            self.scaling.fold(first_layer(model))  # type: ignore[arg-type]

    def finish(
        self,
        loop: Loop,
        scores: Scores,
        agreement: float | None,
        baseline: Baseline | None,
    ) -> None:
        about = {"zoo": __version__, "model": self.recipe.model}
        weights.save(self.plan.chain.state_dict(), self.run.path("model.safetensors"), about)
        results: dict[str, Any] = {"mse": scores.mse, "mae": scores.mae}
        if scores.report:
            results = {"accuracy": scores.report.accuracy, "macro_f1": scores.report.macro_f1}
            write_tables(self.run, scores.report)
            table = [asdict(score) for score in scores.report.classes]
            self.run.update(classes_table=table)
        if baseline:
            results |= {"pca_components": baseline.components, "pca_mse": baseline.mse}
        seconds, cpu_seconds = self.spent()
        self.run.update(
            status="finished",
            best_epoch=loop.progress.best_epoch,
            seconds=round(seconds, 3),
            cpu_seconds=round(cpu_seconds, 3),
            agreement_with_fp32=agreement,
            results=results,
        )
        self.run.path(CHECKPOINT).unlink(missing_ok=True)


def labels_of(samples: tuple[Sample, ...]) -> Array:
    return np.array([sample.label for sample in samples])


def start(plan: Plan, folder: Path, watch: Watch) -> Job:
    """A new run folder for this plan. Raises RunError where it exists."""
    run = Run.create(folder, plan.record())
    with run.or_nothing(), writing(run.path("recipe.toml")):
        resumable(plan).save(run.path("recipe.toml"))
        run.save_index(plan.index)
    return Job(plan, run, watch)


def resumable(plan: Plan) -> Recipe:
    """The recipe with paths that hold in any working directory."""
    paths = {"data": str(plan.index.source.absolute())}
    if plan.index.source != Path(plan.recipe.data):  # a data set by its name
        paths = {}
    if plan.start.origin["tag"] in ("file", "run"):
        paths["weights"] = plan.start.origin["file"]
    return plan.recipe.model_copy(update=paths)


def resume(plan: Plan, run: Run, watch: Watch) -> Job:
    """The same job again in its folder. Raises RunError where photos or weights have changed."""
    before, now = run.record, plan.record()
    if before["data"]["fingerprint"] != now["data"]["fingerprint"]:
        raise RunError(
            f"the photos in {plan.index.root} have changed since {run.folder} began",
            "start a new run: cached features make it quick",
        )
    if before["weights_sha256"] != now["weights_sha256"]:
        raise RunError(
            f"the weights that {run.folder} started from have changed", "start a new run"
        )
    return Job(plan, run, watch)
