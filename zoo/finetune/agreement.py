"""How often a lower precision gives the answer that fp32 gives, on val photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zoo import weights
from zoo.data.views import plain_view
from zoo.engine.agreement import compare
from zoo.engine.compiled import made_of
from zoo.engine.open import NetworkRef, open_engine
from zoo.engine.pipeline import forward
from zoo.engine.select import choose
from zoo.errors import DisagreementError, ImageError
from zoo.features.compute import Views, compute
from zoo.finetune.inputs import Inputs
from zoo.head.layers import Layer
from zoo.head.scores import scores_of
from zoo.metrics import ENOUGH, Array


def of_head(inputs: Inputs, layer: Layer, outputs: Array) -> float | None:
    """Return the share for a solved head on the features of fp32; None of a run in fp32.

    outputs: of all val photos, N x K, in the plan's precision. Features of fp32 are kept, so that
    the next run computes none. Raises DisagreementError where the share is below ENOUGH, unless
    the recipe says to go on.
    """
    plan, val = inputs.plan, inputs.index.of("val")
    if plan.device.precision == "fp32":
        return None
    place = replace(plan.device, precision="fp32")
    exact = open_engine(inputs.prepared.ref(plan.cut), plan.engine, place, plan.recipe.workers)
    cache, root = inputs.cache(plan.cut, exact), inputs.index.root

    def asked(rows: Sequence[int]) -> tuple[Sequence[int], Array]:
        work = [(val[row], Views()) for row in rows]
        found = compute(cache, exact.engine, plan.preprocess, root, work, inputs.progress)
        there = [row for row in rows if val[row].path in found.keys]
        if not there:
            return there, outputs[:0]
        features = cache.rows([found.keys[val[row].path][0] for row in there])
        return there, scores_of(features.flat(), layer)

    said = compare(outputs, asked, ENOUGH)
    if not said.enough and not plan.recipe.force:
        raise DisagreementError(
            f"{plan.device.precision} gives the class that fp32 gives on {100 * said.share:.1f} % "
            f"of {said.photos} val photos, at least {100 * ENOUGH:g} % is asked for; fp32 was "
            f"asked of {said.asked}",
            "leave --precision out, or go on all the same with --force",
        )
    return said.share


def of_network(inputs: Inputs) -> float | None:
    """Return the share for the network that the run has saved; None of a run in fp32.

    In both precisions it runs on the engine that `predict` will choose; in fp32 on photos that
    may have another answer there alone.
    """
    plan, index = inputs.plan, inputs.index
    if plan.device.precision == "fp32":
        return None
    net, val = inputs.prepared.network(), index.of("val")
    digest = weights.hash_of(inputs.run.path("model.safetensors"))
    made = made_of(net.row, net.variant, plan.recipe.head)
    where = (plan.recipe.model, made, f"file {digest}", None, plan.preprocess)
    kind, _ = choose("auto", plan.device.name, plan.device.precision)

    def answers(precision: str, rows: Sequence[int]) -> tuple[Sequence[int], Array]:
        device = replace(plan.device, precision=precision)
        engine = open_engine(NetworkRef(*where, lambda: net.chain), kind, device).engine
        each = forward(rows, lambda row: plain_view(paths[row], plan.preprocess), engine)
        good = [(row, said) for row, said in each if not isinstance(said, ImageError)]
        return [row for row, _ in good], np.stack([said for _, said in good])

    paths = [index.root / sample.path for sample in val]
    there, ours = answers(plan.device.precision, range(len(val)))

    def asked(rows: Sequence[int]) -> tuple[Sequence[int], Array]:
        places = {there[row]: row for row in rows}
        found, scores = answers("fp32", list(places))
        return [places[row] for row in found], scores

    return compare(ours, asked, ENOUGH, plan.recipe.task == "multilabel").share
