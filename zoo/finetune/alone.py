"""A solved head and nothing else: from kept features to a finished run, in numpy.

So most fine-tunes never need torch: where the frozen part is compiled and the features are kept, a
run is over before torch would be imported.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo import __version__, weights
from zoo.data.index import Sample
from zoo.errors import DisagreementError, TrainingError
from zoo.finetune.events import Event, Finished
from zoo.finetune.features import Views, compute
from zoo.finetune.finish import conclude
from zoo.finetune.heads import flat, optimum
from zoo.finetune.prefix import prefix
from zoo.finetune.results import confidence, write_test
from zoo.finetune.settings import Epoch
from zoo.finetune.solver import one_thread
from zoo.finetune.sources import FeatureSource
from zoo.finetune.tasks import Scores
from zoo.metrics import ENOUGH, Array, report
from zoo.subject import spread

if TYPE_CHECKING:
    from zoo.finetune.job import Job

COMPARED = 100  # val photos that are computed in fp32 too


def solve_alone(job: Job) -> Iterator[Event]:
    """The whole of the training, and what is written of it; raises what `Job.events` raises."""
    plan = job.plan
    source = yield from job.gather.source(plan.phases[0])
    assert isinstance(source, FeatureSource)
    if not job.team.first:
        return
    job.run.cut_metrics(0)
    job.open_logs()
    started = time.perf_counter()
    solution = optimum(plan, source, job.gather)
    weight, bias = solution.weight, solution.bias
    classes = job.index.classes
    scores = measured(source, weight, bias, classes)
    outputs, on_test = scores.outputs, source.on_test()
    assert outputs is not None
    if not np.isfinite(outputs).all():
        raise TrainingError(
            "the features of the val photos hold values that are not finite",
            "use --precision fp32",
        )
    train_loss = loss_of(scores_of(flat(source.features), weight, bias), source.labels)
    epoch = epoch_of(scores, train_loss, time.perf_counter() - started, solution.reason)
    job.log(epoch)
    yield epoch
    val = job.index.of("val")
    agreement = agreeing(job, val, weight, bias, outputs)
    calibration = confidence(
        job.run,
        val,
        outputs,
        plan.recipe.seed,
        "" if plan.recipe.calibrate else "--no-calibrate",
    )
    save(
        job,
        weight / np.float32(calibration.temperature),
        bias / np.float32(calibration.temperature),
    )
    job.run.update(linear_head=plan.head)
    done = Finished(scores, None, 1, agreement, 0.0, calibration)
    if on_test:
        test = measured(on_test, weight, bias, classes)
        done = replace(done, test=write_test(job.run, job.index, test, calibration))
    yield from conclude(job, done)


def measured(source: FeatureSource, weight: Array, bias: Array, classes: tuple[str, ...]) -> Scores:
    """Return the scores of the val photos of a source."""
    outputs = scores_of(flat(source.val_features), weight, bias)
    labels = source.val_labels
    found = report(outputs.argmax(axis=1), labels, classes)
    return Scores(loss_of(outputs, labels), found, outputs=outputs)


def scores_of(features: Array, weight: Array, bias: Array) -> Array:
    """N x K float32 of N x D; on one thread, for the same bits on any number of cores."""
    with one_thread():
        return np.asarray(features @ weight.T + bias)


def loss_of(scores: Array, labels: Array) -> float:
    """Mean cross-entropy, in nats."""
    from scipy.special import logsumexp

    wide = scores.astype(np.float64)
    return float(np.mean(logsumexp(wide, axis=1) - wide[np.arange(len(labels)), labels]))


def epoch_of(scores: Scores, train_loss: float, seconds: float, note: str) -> Epoch:
    """What stands in the place of an epoch."""
    assert scores.report is not None
    return Epoch(
        epoch=1,
        train_loss=train_loss,
        val_loss=scores.loss,
        accuracy=scores.report.accuracy,
        map=None,
        macro_f1=scores.report.macro_f1,
        mse=None,
        lr=0.0,
        seconds=seconds,
        best=True,
        notes=(note,),
    )


def agreeing(
    job: Job, val: Sequence[Sample], weight: Array, bias: Array, outputs: Array
) -> float | None:
    """Share of val photos that get the same class in fp32; None of a run in fp32.

    Of up to COMPARED photos from all over the list. Raises DisagreementError where it is below
    ENOUGH, unless the recipe says to go on.
    """
    plan = job.plan
    if plan.device.precision == "fp32":
        return None
    assert plan.cut is not None
    place = replace(plan.device, precision="fp32")
    exact = prefix(plan.part(plan.cut), plan.engine, place, plan.recipe.workers)
    cache = job.gather.cache(plan.cut, exact)  # so that the next run need not compute them
    rows = spread(range(len(val)), COMPARED)
    work = [(val[row], Views()) for row in rows]
    found = compute(cache, exact.engine, plan.preprocess, job.index.root, work, job.gather.progress)
    there = [row for row in rows if val[row].path in found.keys]
    features = cache.rows([found.keys[val[row].path][0] for row in there])
    theirs = scores_of(flat(features), weight, bias)
    same = theirs.argmax(axis=1) == outputs[there].argmax(axis=1)
    share = float(np.mean(same))
    if share < ENOUGH and not plan.recipe.force:
        raise disagreement(plan.device.precision, share, len(same))
    return share


def disagreement(precision: str, share: float, photos: int) -> DisagreementError:
    return DisagreementError(
        f"{precision} gives the class that fp32 gives on {100 * share:.1f} % of {photos} val "
        f"photos, at least {100 * ENOUGH:g} % is asked for",
        "leave --precision out, or go on all the same with --force",
    )


def save(job: Job, weight: Array, bias: Array) -> None:
    """model.safetensors: the network as it was, with the new head."""
    plan, ready = job.plan, job.gather.prefix
    if plan.known and ready and ready.compiled:
        state = ready.compiled.state()
    else:
        state = {n: value.cpu().numpy() for n, value in plan.chain.state_dict().items()}
    state |= {f"{plan.head}.weight": weight, f"{plan.head}.bias": bias}
    about = {"zoo": __version__, "model": plan.recipe.model}
    weights.save_arrays(state, job.run.path("model.safetensors"), about)
