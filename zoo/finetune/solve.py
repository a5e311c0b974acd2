"""The one place where a head is solved for: its optimum on the features of the training photos."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import TrainingError
from zoo.finetune.inputs import AnyBatches, Inputs
from zoo.finetune.journal import Journal
from zoo.head.folds import alike
from zoo.head.solver import loss_of, scores_of
from zoo.metrics import Array, report
from zoo.train.batches import FeatureBatches
from zoo.train.records import Epoch, Scores
from zoo.watch import stop

if TYPE_CHECKING:
    from zoo.head.distance import Distance
    from zoo.head.solver import Solution
    from zoo.train.loop import Loop

Head = tuple[Array, Array]  # K x D and K


def solve(inputs: Inputs, source: FeatureBatches) -> Solution:
    """Return the head that is best on the training features of a source. Needs no torch."""
    from zoo.head.softmax_regression import Targets
    from zoo.head.solver import Search
    from zoo.head.solver import solve as optimum

    plan, train = inputs.plan, inputs.index.of("train")
    targets = Targets(
        source.labels,
        len(inputs.index.classes),
        alike([inputs.digests[sample.path] for sample in train], plan.views),
        np.array(inputs.class_weights) if inputs.class_weights else None,
        plan.recipe.label_smoothing,
    )
    search = Search(plan.recipe.seed, penalty=plan.recipe.penalty)
    return optimum(source.features.flat(), targets, search, lambda: stop(inputs.watch.signal))


def only(
    inputs: Inputs, journal: Journal, source: AnyBatches
) -> tuple[Scores, Scores | None, Head]:
    """Return the scores of the val and of the test photos, and the head that has them.

    Nothing else is trained, so it takes no torch. Raises TrainingError.
    """
    assert isinstance(source, FeatureBatches)
    journal.begin(0)
    started = time.perf_counter()
    found = solve(inputs, source)
    scores = _scores(source, found, inputs.index.classes)
    assert scores.report is not None
    if not np.isfinite(scores.outputs).all():  # type: ignore[arg-type]
        raise TrainingError(
            "the features of the val photos hold values that are not finite",
            "use --precision fp32",
        )
    outputs = scores_of(source.features.flat(), found.weight, found.bias)
    epoch = Epoch(
        epoch=1,
        train_loss=loss_of(outputs, source.labels),
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
    test = _scores(on_test, found, inputs.index.classes) if on_test else None
    return scores, test, (found.weight, found.bias)


def distance(inputs: Inputs, source: AnyBatches) -> Distance:
    """Return how far photos are from those of the training, by the plain view of each."""
    from zoo.head.distance import fit

    assert isinstance(source, FeatureBatches)
    plain = slice(None, None, inputs.plan.views)
    features, labels = source.features.flat()[plain], source.labels[plain]
    return fit(features, labels, source.val_features.flat())


def _scores(source: FeatureBatches, found: Solution, classes: tuple[str, ...]) -> Scores:
    """Return what the val photos of a source say of a head."""
    outputs = scores_of(source.val_features.flat(), found.weight, found.bias)
    labels = source.val_labels
    return Scores(
        loss_of(outputs, labels),
        report(outputs.argmax(axis=1), labels, classes),
        outputs=outputs,
    )


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
        note = found.reason
    ranks.broadcast_model(loop.model)
    journal.log(loop.solved(note, started))
