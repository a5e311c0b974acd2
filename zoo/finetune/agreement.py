"""How often a lower precision gives the answer that fp32 gives, on val photos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo import weights
from zoo.data.samples import evenly
from zoo.data.views import plain_view
from zoo.engine.compiled import made_of
from zoo.engine.open import NetworkRef, open_engine
from zoo.engine.pipeline import forward
from zoo.engine.select import choose
from zoo.errors import DisagreementError, ImageError
from zoo.features.compute import Views, compute
from zoo.finetune.inputs import Inputs
from zoo.head.layers import Layer
from zoo.head.solver import scores_of
from zoo.metrics import ENOUGH, THRESHOLD, Array, sigmoid

PHOTOS = 256  # val photos that the whole network is asked of
COMPARED = 100  # whose features are computed in fp32 too


def same_answers(ours: Array, theirs: Array, several: bool) -> float:
    """Return the share of rows, N x K, with the same class, or the same labels of several."""
    if several:
        same = ((sigmoid(ours) >= THRESHOLD) == (sigmoid(theirs) >= THRESHOLD)).all(axis=1)
    else:
        same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    return float(np.mean(same))


def of_head(inputs: Inputs, layer: Layer, outputs: Array) -> float | None:
    """Return the share for a solved head on the features of fp32; None of a run in fp32.

    outputs: of all val photos, N x K, in the plan's precision; up to COMPARED of them count.
    Raises DisagreementError where the share is below ENOUGH, unless the recipe says to go on.
    """
    plan, val = inputs.plan, inputs.index.of("val")
    if plan.device.precision == "fp32":
        return None
    place = replace(plan.device, precision="fp32")
    exact = open_engine(inputs.prepared.ref(plan.cut), plan.engine, place, plan.recipe.workers)
    cache = inputs.cache(plan.cut, exact)  # so that the next run need not compute them
    rows = evenly(range(len(val)), COMPARED)
    work = [(val[row], Views()) for row in rows]
    root = inputs.index.root
    found = compute(cache, exact.engine, plan.preprocess, root, work, inputs.progress)
    there = [row for row in rows if val[row].path in found.keys]
    features = cache.rows([found.keys[val[row].path][0] for row in there])
    share = same_answers(outputs[there], scores_of(features.flat(), layer), False)
    if share < ENOUGH and not plan.recipe.force:
        raise DisagreementError(
            f"{plan.device.precision} gives the class that fp32 gives on {100 * share:.1f} % of "
            f"{len(there)} val photos, at least {100 * ENOUGH:g} % is asked for",
            "leave --precision out, or go on all the same with --force",
        )
    return share


def of_network(inputs: Inputs) -> float | None:
    """Return the share for the network that the run has saved; None of a run in fp32.

    In both precisions it runs on the engine that `predict` will choose.
    """
    plan, index = inputs.plan, inputs.index
    if plan.device.precision == "fp32":
        return None
    net = inputs.prepared.network()
    val = evenly(index.of("val"), PHOTOS)  # the index is sorted by class
    paths = [index.root / sample.path for sample in val]
    digest = weights.hash_of(inputs.run.path("model.safetensors"))
    made = made_of(net.row, net.variant, plan.recipe.head)
    where = (plan.recipe.model, made, f"file {digest}", None, plan.preprocess)
    kind, _ = choose("auto", plan.device.name, plan.device.precision)
    answers = []
    for precision in ("fp32", plan.device.precision):
        device = replace(plan.device, precision=precision)
        engine = open_engine(NetworkRef(*where, lambda: net.chain), kind, device).engine
        rows = forward(paths, lambda path: plain_view(path, plan.preprocess), engine)
        answers.append([row for _, row in rows])
    there = [pair for pair in zip(*answers, strict=True) if not isinstance(pair[0], ImageError)]
    theirs, ours = (np.stack(rows) for rows in zip(*there, strict=True))
    return same_answers(ours, theirs, plan.recipe.task == "multilabel")
