"""What a finished fine-tune writes down beside its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__, catalog, weights
from zoo.data.index import DatasetIndex, Sample
from zoo.data.samples import evenly
from zoo.data.views import plain_view
from zoo.disk import write_sealed
from zoo.engine.compiled import made_of
from zoo.engine.open import NetworkRef, open_engine, tensors_of
from zoo.engine.pipeline import forward
from zoo.engine.select import choose
from zoo.errors import DisagreementError, ImageError, WriteError
from zoo.features.compute import Views, compute
from zoo.finetune import multilabel
from zoo.finetune.events import Baseline, Finished, Tested
from zoo.finetune.facts import Known, kept_as, words_of
from zoo.finetune.fit import flat
from zoo.finetune.pca_baseline import baseline, code_width
from zoo.head.solver import scores_of
from zoo.head.temperature import Calibration, answers, fit
from zoo.metrics import (
    ENOUGH,
    THRESHOLD,
    Array,
    LabelReport,
    Report,
    calibration_error,
    risk_coverage,
    sigmoid,
)
from zoo.models.head import fold_temperature as fold_temperature
from zoo.models.head import obstacle
from zoo.network import record_of
from zoo.run import Run, write_csv
from zoo.train.batches import PhotoSource
from zoo.train.records import Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.engine.open import Opened
    from zoo.finetune.inputs import Gather
    from zoo.finetune.plan import Plan
    from zoo.train.loop import Loop

PHOTOS = 256


def write_confusion(run: Run, report: Report) -> None:
    """Writes confusion.csv: who is taken for whom."""
    names = [score.name for score in report.classes]
    table = ([name, *row] for name, row in zip(names, report.confusion, strict=True))
    write_csv(run.path("confusion.csv"), ("true \\ predicted", *names), table)


def write_class_table(run: Run, table: list[dict[str, Any]]) -> None:
    """classes.csv; what was not measured is empty."""
    header = ["class", *list(table[0])[1:]]
    write_csv(run.path("classes.csv"), header, (row.values() for row in table))


def confidence(
    run: Run, samples: Sequence[Sample], scores: Array, seed: int, why_not: str = ""
) -> Calibration:
    """Fits the temperature and writes val.csv and risk_coverage.csv, both with it.

    scores: of the val samples, N x K, before softmax and before the temperature is folded into
    the head. why_not: a reason to leave it at 1.
    """
    labels = np.array([sample.label for sample in samples])
    calibration = fit(scores, labels, seed, why_not)
    scores = scores / calibration.temperature
    write_answers(run.path("val.csv"), samples, scores, run.record["classes"])
    write_risk_coverage(run, *answers(scores, labels))
    return calibration


def write_test(
    run: Run, index: DatasetIndex, scores: Scores, calibration: Calibration | None
) -> Tested:
    """Writes test.csv and run.json's `test`: what the test photos say of the finished network.

    scores: with outputs from before the temperature is folded into the head.
    """
    samples, ece = index.of("test"), None
    results: dict[str, Any] = {"photos": len(samples)}
    if scores.outputs is not None:
        outputs = scores.outputs / (calibration.temperature if calibration else 1.0)
        if index.multilabel:
            probabilities = sigmoid(outputs)
            truth = np.array(index.targets("test"))
            multilabel.write_answers(run.path("test.csv"), index, "test", probabilities)
            ece = multilabel.calibration_error_of(probabilities, truth)
        else:
            labels = np.array([sample.label for sample in samples])
            write_answers(run.path("test.csv"), samples, outputs, index.classes)
            ece = calibration_error(*answers(outputs, labels))
    run.update(test=results | measured(scores) | ({} if ece is None else {"ece": ece}))
    return Tested(scores, len(samples), ece)


def measured(scores: Scores) -> dict[str, Any]:
    """Return the numbers that run.json has of scores, those of each class among them."""
    found = scores.report or scores.labels
    if found is None:
        return {"mse": scores.mse, "mae": scores.mae}
    names = ("accuracy", "macro_f1") if scores.report else ("map", "macro_f1", "exact")
    return {name: getattr(found, name) for name in names} | {"classes": class_table(found)}


def class_table(found: Report | LabelReport) -> list[dict[str, Any]]:
    """Return a record for each class; of one without a photo nothing was measured: None."""
    return [
        {
            key: value if score.photos or key in ("name", "photos") else None
            for key, value in asdict(score).items()
        }
        for score in found.classes
    ]


def write_answers(
    path: Path, samples: Sequence[Sample], scores: Array, classes: Sequence[str]
) -> None:
    """val.csv or test.csv: what the network says of each photo, in the order of the index."""
    labels = np.array([sample.label for sample in samples])
    found = zip(samples, scores.argmax(axis=1), *answers(scores, labels), strict=True)
    rows = (
        (s.path, classes[s.label], classes[guess], f"{probability:.6g}", int(right))
        for s, guess, probability, right in found
    )
    write_csv(path, ("path", "label", "predicted", "probability", "correct"), rows)


def write_risk_coverage(run: Run, probability: Array, correct: Array) -> None:
    """risk_coverage.csv: for each threshold what share of the val photos reaches it, and errs."""
    found = zip(*risk_coverage(probability, correct), strict=True)
    rows = (
        (f"{threshold:.9g}", f"{kept / len(correct):.6g}", f"{risk:.6g}", int(kept))
        for threshold, kept, risk in found
    )
    write_csv(run.path("risk_coverage.csv"), ("threshold", "coverage", "risk", "kept"), rows)


def agreement_with_fp32(plan: Plan, index: DatasetIndex, run: Run) -> float:
    """Share of validation photos that get the same answer in fp32 and in the plan's precision.

    Both run the whole network that the run has saved, on the engine that `predict` will choose.
    """
    val = evenly(index.of("val"), PHOTOS)  # the index is sorted by class
    paths = [index.root / sample.path for sample in val]
    several = plan.recipe.task == "multilabel"

    def answer(scores: Array) -> Any:
        return (sigmoid(scores) >= THRESHOLD).tolist() if several else scores.argmax()

    digest = weights.hash_of(run.path("model.safetensors"))
    made = made_of(plan.start.row, plan.start.variant, plan.recipe.head)
    where = (plan.recipe.model, made, f"file {digest}", None, plan.preprocess)
    kind, _ = choose("auto", plan.device.name, plan.device.precision)
    answers = []
    for precision in ("fp32", plan.device.precision):
        device = replace(plan.device, precision=precision)
        engine = open_engine(NetworkRef(*where, lambda: plan.chain), kind, device).engine
        rows = forward(paths, lambda path: plain_view(path, plan.preprocess), engine)
        answers.append([None if isinstance(row, ImageError) else answer(row) for _, row in rows])
    return float(np.mean([ours == theirs for ours, theirs in zip(*answers, strict=True)]))


COMPARED = 100  # val photos that are computed in fp32 too


def agreeing(
    plan: Plan, inputs: Gather, val: Sequence[Sample], weight: Array, bias: Array, outputs: Array
) -> float | None:
    """Share of val photos that get the same class in fp32; None of a run in fp32.

    Of up to COMPARED photos from all over the list. Raises DisagreementError where it is below
    ENOUGH, unless the recipe says to go on.
    """
    if plan.device.precision == "fp32":
        return None
    assert plan.cut is not None
    place = replace(plan.device, precision="fp32")
    exact = open_engine(plan.part(plan.cut), plan.engine, place, plan.recipe.workers)
    cache = inputs.cache(plan.cut, exact)  # so that the next run need not compute them
    rows = evenly(range(len(val)), COMPARED)
    work = [(val[row], Views()) for row in rows]
    found = compute(cache, exact.engine, plan.preprocess, inputs.index.root, work, inputs.progress)
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


def remember(plan: Plan) -> None:
    """Keeps what the plan says of its network; a cache that cannot be written keeps nothing."""
    from zoo.finetune.describe import about_frozen, names_trained, why_there
    from zoo.models.cut import is_linear

    assert plan.cut is not None
    assert plan.facts is not None
    known = Known(
        spec=record_of(plan.start.row),
        origin=plan.start.origin,
        preprocess=plan.start.preprocess.to_dict(),
        weights_sha256=plan.weights_sha256,
        head=plan.head,
        cut=plan.cut.name,
        boundary=plan.cut.boundary,
        shape=plan.phases[0].shape,
        frozen=about_frozen(plan.cut),
        trained=names_trained(plan.cut),
        why=why_there(plan),
        linear=is_linear(plan.cut, plan.chain, plan.head, plan.phases[0].shape),
        tensors=tensors_of(plan.cut.frozen),
    )
    origin, text = plan.start.origin, json.dumps(asdict(known))
    with suppress(WriteError):
        if catalog.of_library(plan.recipe.model) and origin["tag"] not in ("file", "run", "none"):
            write_sealed(kept_as("file", words_of(plan.recipe)), origin["file"].encode())
        write_sealed(plan.facts, text.encode(errors="surrogatepass"))


def write_results(run: Run, done: Finished) -> None:
    """Writes what the val photos say."""
    results = measured(done.scores)
    if done.scores.report:
        write_confusion(run, done.scores.report)
    if (table := results.pop("classes", None)) is not None:
        write_class_table(run, table)
        run.update(classes_table=table)
    if done.calibration:
        run.update(calibration=asdict(done.calibration))
    if done.baseline:
        results |= {"pca_components": done.baseline.components, "pca_mse": done.baseline.mse}
    run.update(results=results)


def calibrated(plan: Plan, run: Run, index: DatasetIndex, loop: Loop, scores: Array) -> Calibration:
    """The temperature, in the head from here on; writes down what the val photos got."""
    why_not = "" if plan.recipe.calibrate else "--no-calibrate"
    if not why_not:
        some = next(iter(loop.source.val()))[:2]
        why_not = obstacle(loop.model, plan.head, some)
    if plan.recipe.task == "multilabel":
        calibration = multilabel.confidence(run, index, scores, plan.recipe.seed, why_not)
    else:
        val = index.of("val")
        calibration = confidence(run, val, scores, plan.recipe.seed, why_not)
    fold_temperature(loop.model, plan.head, calibration.temperature)
    return calibration


def pca(plan: Plan, source: Any) -> Baseline | None:
    """What principal components do with a code as long as the network's."""
    assert isinstance(source, PhotoSource)
    width = code_width(plan.chain, plan.start.spec)
    return baseline(source.pixels_of("train"), source.pixels_of("val"), width)


def save_head(plan: Plan, ready: Opened | None, run: Run, weight: Array, bias: Array) -> None:
    """model.safetensors: the network as it was, with the new head."""
    if plan.known and ready and ready.compiled:
        state = ready.compiled.state()
    else:
        state = {n: value.cpu().numpy() for n, value in plan.chain.state_dict().items()}
    state |= {f"{plan.head}.weight": weight, f"{plan.head}.bias": bias}
    about = {"zoo": __version__, "model": plan.recipe.model}
    weights.save_arrays(state, run.path("model.safetensors"), about)
