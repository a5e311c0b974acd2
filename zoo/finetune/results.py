"""What a finished fine-tune is: its network, with a temperature in the head, and its scores."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from zoo import __version__, weights
from zoo.data.index import DatasetIndex
from zoo.finetune import agreement, tables
from zoo.finetune.events import Finished, Tested
from zoo.finetune.fit import Fitted
from zoo.finetune.inputs import Inputs
from zoo.finetune.pca_baseline import baseline_of
from zoo.finetune.teacher import Teacher, compare
from zoo.head.distance import Distance
from zoo.head.layers import Layer
from zoo.head.temperature import FEWEST, Calibration, answers, fit, folds_of
from zoo.metrics import THRESHOLD, Array, calibration_error, sigmoid
from zoo.models.head import fold_temperature, obstacle
from zoo.run import DISTANCE, Run
from zoo.train.records import Scores
from zoo.weights import hf_config


def finish(inputs: Inputs, fitted: Fitted) -> Finished:
    """Calibrate and save the network, and write down what the val and the test photos say.

    Raises DisagreementError where a solved head in a lower precision says other than in fp32.
    """
    plan, run, loop = inputs.plan, inputs.run, fitted.loop
    about = {"zoo": __version__, "model": plan.recipe.model}
    place, baseline = run.path("model.safetensors"), None
    if fitted.head:
        assert fitted.scores.outputs is not None
        agrees = agreement.of_head(inputs, fitted.head, fitted.scores.outputs)
        calibration = calibrate(inputs, fitted)
        weights.save_arrays(_state(inputs, fitted.head, calibration), place, about)
        run.update(linear_head=plan.facts.head)
    else:
        assert loop is not None
        calibration = calibrate(inputs, fitted)
        if calibration:
            fold_temperature(loop.model, plan.facts.head, calibration.temperature)
        weights.save(inputs.prepared.network().chain.state_dict(), place, about)
        agrees = agreement.of_network(inputs)
        if plan.recipe.task == "reconstruct":
            baseline = baseline_of(inputs.prepared.network(), loop.batches)
    if fitted.distance is not None:
        keep(run, fitted.distance)
    best_epoch = loop.state.best_epoch if loop else 1
    done = Finished(fitted.scores, baseline, best_epoch, agrees, 0.0, calibration)
    if fitted.test:
        done = replace(done, test=_test(run, inputs.index, fitted.test, calibration))
    tables.write_results(run, done)
    run.update(
        model_sha256=weights.hash_of(place),
        best_epoch=best_epoch,
        skipped_steps=loop.state.skipped if loop else 0,
        agreement_with_fp32=agrees,
    )
    hf_config.keep_beside(place, run.record)
    if plan.recipe.teacher:
        _compare_with(Teacher.of(plan.recipe.teacher, plan.device), inputs)
    return done


def keep(run: Run, distance: Distance) -> None:
    """Write the distance from the training photos beside the network of a run."""
    about = {"zoo": __version__, "model": run.record["model"]}
    weights.save_arrays(distance.arrays(), run.path(DISTANCE), about)
    run.update(distance_sha256=weights.hash_of(run.path(DISTANCE)))


def _compare_with(teacher: Teacher, inputs: Inputs) -> None:
    """Measure the run beside its teacher, and say so."""
    beside = compare(teacher, inputs.run, inputs.progress)
    inputs.run.update(distilled=asdict(beside))
    inputs.watch.tell(beside)


def calibrate(inputs: Inputs, fitted: Fitted) -> Calibration | None:
    """Fit the temperature on the val photos and write down what they get with it.

    None where there are no probabilities. It stays 1 where the recipe says so, and where dividing
    the head's last layer would not divide the scores.
    """
    plan, outputs, loop = inputs.plan, fitted.scores.outputs, fitted.loop
    if outputs is None:
        return None
    why_not = "" if plan.recipe.calibrate else "--no-calibrate"
    if loop and not why_not:
        why_not = obstacle(loop.model, plan.facts.head, next(iter(loop.batches.val()))[:2])
    return confidence(inputs.run, inputs.index, outputs, plan.recipe.seed, why_not)


def confidence(
    run: Run, index: DatasetIndex, outputs: Array, seed: int, why_not: str = ""
) -> Calibration:
    """Return the temperature of outputs N x K; write val.csv and risk_coverage.csv with it.

    why_not: a reason to leave it at 1. Several labels a photo are N x K answers of yes or no:
    sigmoid(s) is the softmax of the scores 0 and s, so one temperature divides them all, and no
    probability crosses 0.5 by it. A photo's answers are in one fold, since they are not
    independent. ECE, NLL and AURC are of the N x K answers then, and there is no risk_coverage.csv.
    """
    if index.multilabel:
        truth = np.array(index.targets("val"))
        photos, classes = truth.shape
        if photos < FEWEST and not why_not:
            why_not = f"{photos} val photos are too few: it takes {FEWEST}"
        pairs = np.stack([np.zeros_like(outputs), outputs], axis=-1).reshape(-1, 2)
        folds = np.repeat(folds_of(np.zeros(photos, np.int64), seed), classes)
        found = fit(pairs, truth.reshape(-1).astype(np.int64), seed, why_not, folds)
        found = replace(found, photos=photos)
    else:
        labels = np.array(index.labels("val"))
        found = fit(outputs, labels, seed, why_not)
        tables.write_risk_coverage(run, *answers(outputs / found.temperature, labels))
    tables.write_answers(run, index, "val", outputs / found.temperature)
    return found


def _state(inputs: Inputs, layer: Layer, calibration: Calibration | None) -> dict[str, Array]:
    """Return the tensors of the network as it was, with the new head."""
    prepared, opened, head = inputs.prepared, inputs.opened, inputs.plan.facts.head
    if prepared.built is None and opened and opened.compiled:
        state = opened.compiled.state()
    else:
        chain = prepared.network().chain
        state = {n: value.cpu().numpy() for n, value in chain.state_dict().items()}
    rest = {name: array for name, array in state.items() if not name.startswith(f"{head}.")}
    layer = layer.divided(calibration.temperature if calibration else 1.0)
    return rest | {f"{head}.{name}": array for name, array in layer.arrays.items()}


def _test(run: Run, index: DatasetIndex, scores: Scores, calibration: Calibration | None) -> Tested:
    """Write test.csv and run.json's `test`: what the test photos say of the finished network."""
    photos, ece = len(index.of("test")), None
    if scores.outputs is not None:
        outputs = scores.outputs / (calibration.temperature if calibration else 1.0)
        tables.write_answers(run, index, "test", outputs)
        truth = np.array(index.targets("test"))
        if index.multilabel:
            probabilities = sigmoid(outputs)
            yes = probabilities >= THRESHOLD
            sure = np.where(yes, probabilities, 1 - probabilities)
            ece = calibration_error(sure.reshape(-1), (yes == (truth > 0)).reshape(-1))
        else:
            ece = calibration_error(*answers(outputs, truth))
    about = {"photos": photos} | tables.measured(scores) | ({} if ece is None else {"ece": ece})
    run.update(test=about)
    return Tested(scores, photos, ece)
