"""The one place where a head is found at once: solved for, or computed, on kept features."""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import TrainingError
from zoo.features.standardise import ScaledFeatures
from zoo.finetune import tables, text_rows
from zoo.finetune.events import Note, tell_if_alike
from zoo.finetune.inputs import AnyBatches, Inputs
from zoo.finetune.journal import Journal
from zoo.head.folds import Photos, alike
from zoo.head.kinds import kind_of
from zoo.head.layers import Joint, Layer, Linear, unit
from zoo.head.rows import spread_of
from zoo.head.scores import loss_of, measured, scores_of
from zoo.head.stored import Stored
from zoo.head.threads import one_thread
from zoo.metrics import Array, report
from zoo.text import one_line
from zoo.train.batches import FeatureBatches
from zoo.train.records import Epoch, Scores
from zoo.watch import stop

if TYPE_CHECKING:
    from zoo.data.samples import Sample
    from zoo.head.distance import Distance
    from zoo.head.solver import Solution
    from zoo.head.suspicious import Suspicious
    from zoo.train.loop import Loop


@dataclass(frozen=True, slots=True)
class Found:
    """A head, and how it was found in words."""

    layer: Layer
    reason: str


def find(inputs: Inputs, source: FeatureBatches) -> Found:
    """Return the head of the recipe's kind on the training features of a source; no torch."""
    kind = kind_of(inputs.plan.recipe.head)
    if not kind.computed:
        best = solve(inputs, source)
        _record(inputs, best)
        return Found(Linear(best.weight, best.bias), best.reason)
    if kind.word == "text":
        return _blended(inputs, source)
    from zoo.head import neighbours, prototype

    labels, features = source.labels, source.features.flat()
    tell_if_alike(inputs.watch, spread_of(features.std(axis=0), features.mean(axis=0)))
    photos = Photos.of(_groups(inputs), labels)
    with one_thread():
        if kind.word == "knn":
            return Found(*neighbours.neighbours(features, labels, photos, kind.number))
        if kind.metric == "cosine":
            return Found(*prototype.cosine(features, labels, photos))
        return Found(*prototype.mahalanobis(features, labels, photos))


def _blended(inputs: Inputs, source: FeatureBatches) -> Found:
    """Return rows from class names, blended with rows that are solved for on the same features."""
    from zoo.head.text import blend

    tower = inputs.prepared.tower
    assert tower is not None, "a text head is planned with one"
    project, texts = text_rows.rows(tower.source, inputs.index.classes)
    features, val = (
        unit(scores_of(each.flat(), project)) for each in (source.features, source.val_features)
    )
    best = solve(inputs, source, features)
    _record(inputs, best)
    with one_thread():
        rows, share = blend(texts, Linear(best.weight, best.bias), val, source.val_labels)
    inputs.run.record.update(text={"from": tower.source, "share": share})
    why = (
        f"{share:.0%} class names and {1 - share:.0%} photos; the val photos chose that, so their "
        f"accuracy is not independent of it; of the photos: {best.reason}"
    )
    return Found(Joint(project, rows), why)


def _groups(inputs: Inputs) -> Array | None:
    """Return the photo of each row to train on; None where each is one, whatever is in it."""
    if inputs.prepared.source:
        return None
    train = inputs.index.of("train")
    return alike([inputs.digests[sample.path] for sample in train], inputs.plan.views)


def solve(inputs: Inputs, source: FeatureBatches, features: Array | None = None) -> Solution:
    """Return the linear head that is best on the training features of a source. Needs no torch.

    features: what became of them, where the head does not take them as they are.
    """
    from zoo.head.penalty import Search
    from zoo.head.softmax_regression import Targets
    from zoo.head.solver import solve as optimum

    plan = inputs.plan
    targets = Targets(
        source.labels,
        len(inputs.index.classes),
        _groups(inputs),
        np.array(inputs.class_weights) if inputs.class_weights else None,
        plan.recipe.label_smoothing,
    )
    inputs.watch.progress("solving the head", 0, None)
    search, steps = Search(plan.recipe.seed, penalty=plan.recipe.penalty), itertools.count(1)

    def poll() -> None:
        inputs.watch.progress("solving the head, step", next(steps), None)
        stop(inputs.watch.signal)

    rows = source.features.flat() if features is None else features
    best = optimum(rows, targets, search, poll)
    tell_if_alike(inputs.watch, best.spread)
    return best


def _record(inputs: Inputs, best: Solution) -> None:
    """Write down which penalties were tried, and which labels the heads of the folds doubt."""
    from zoo.head.suspicious import suspicious

    known: dict[str, object] = {"penalties": [asdict(tried) for tried in best.table]}
    if held := best.held_out:
        train = inputs.index.of("train")
        samples = [train[row // inputs.plan.views] for row in held.rows]
        labels = np.array([sample.label for sample in samples])
        found = suspicious(held.probabilities, labels)
        classes = inputs.index.classes
        tables.write_suspicious(inputs.run, classes, samples, held.probabilities, found)
        known["suspicious"] = found.flagged
        if found.flagged:
            inputs.watch.tell(Note(_doubt(classes, samples, found)))
    inputs.run.record.update(penalty=best.penalty, **known)


def _doubt(classes: tuple[str, ...], samples: list[Sample], found: Suspicious) -> str:
    """Return the line about labels that are probably wrong."""
    row = found.order[0]
    first, other = samples[row], classes[found.proposed[row]]
    what = "1 label looks" if found.flagged == 1 else f"{found.flagged:,} labels look"
    return (
        f"{what} wrong, see suspicious.csv; the first: {one_line(first.path)} is "
        f"'{one_line(classes[first.label])}' and looks like '{one_line(other)}'"
    )


def only(
    inputs: Inputs, journal: Journal, source: AnyBatches
) -> tuple[Scores, Scores | None, Layer]:
    """Return the scores of the val and of the test photos, and the head that has them.

    Nothing else is trained, so it takes no torch. Raises TrainingError.
    """
    assert isinstance(source, FeatureBatches)
    journal.begin(0)
    started = time.perf_counter()
    found = find(inputs, source)
    scores = _scores(source, found.layer, inputs.index.classes)
    assert scores.report is not None
    if not np.isfinite(scores.outputs).all():  # type: ignore[arg-type]
        raise TrainingError(
            "the features of the val photos hold values that are not finite",
            "use --precision fp32",
        )
    loss, learned = measured(source.features.flat(), source.labels, found.layer)
    inputs.run.record.update(train_accuracy=learned)
    epoch = Epoch(
        epoch=1,
        train_loss=loss,
        val_loss=scores.loss,
        accuracy=scores.report.accuracy,
        map=None,
        macro_f1=scores.report.macro_f1,
        mse=None,
        lr=0.0,
        seconds=time.perf_counter() - started,
        best=True,
        notes=(found.reason,),
    )
    journal.log(epoch)
    on_test = source.on_test()
    test = _scores(on_test, found.layer, inputs.index.classes) if on_test else None
    return scores, test, found.layer


def distance(inputs: Inputs, source: AnyBatches) -> Distance | None:
    """Return how far photos are from those of the training, by the plain view of each.

    None where what the head takes is not kept, and where photos have several labels.
    """
    from zoo.head.distance import fit

    plan = inputs.plan
    if not isinstance(source, FeatureBatches) or plan.recipe.task != "classify":
        return None
    if plan.phases[-1].cut.kind == "deeper" or inputs.index.multilabel:
        return None
    if isinstance(source.features.flat(), Stored):  # it takes all of them at once
        return None
    train, val = (
        each.unscaled if isinstance(each, ScaledFeatures) else each
        for each in (source.features, source.val_features)
    )
    plain = slice(None, None, plan.views)
    return fit(train.flat()[plain], source.labels[plain], val.flat())


def _scores(source: FeatureBatches, layer: Layer, classes: tuple[str, ...]) -> Scores:
    """Return what the val photos of a source say of a head."""
    outputs = scores_of(source.val_features.flat(), layer)
    return scores_from(outputs, source.val_labels, classes)


def scores_from(outputs: Array, labels: Array, classes: tuple[str, ...]) -> Scores:
    """Return what photos of these labels say of a head that gave these outputs, N x K."""
    found = report(outputs.argmax(axis=1), labels, classes)
    return Scores(loss_of(outputs, labels), found, outputs=outputs)


def into_chain(inputs: Inputs, journal: Journal, loop: Loop) -> None:
    """Put the optimum into the chain's head, from where later phases train it in steps."""
    import torch

    started, note, ranks = time.perf_counter(), "", inputs.ranks
    if ranks.main:
        assert isinstance(loop.batches, FeatureBatches)
        found = solve(inputs, loop.batches)
        head = inputs.prepared.network().chain.get_submodule(inputs.plan.facts.head)
        assert isinstance(head, torch.nn.Linear)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(found.weight))
            head.bias.copy_(torch.from_numpy(found.bias))
        inputs.run.update(penalty=found.penalty, penalties=list(map(asdict, found.table)))
        note = found.reason
    ranks.broadcast_model(loop.model)
    journal.log(loop.solved(note, started))
