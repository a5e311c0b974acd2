"""A network of which nothing is known yet is built, with torch, and looked at."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo import device, models, network
from zoo.catalog import ModelSpec
from zoo.catalog.spec import as_size
from zoo.engine.open import state_sha256, tensors_of
from zoo.errors import UsageError
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.head.kinds import kind_of
from zoo.models.chain import before, listed
from zoo.models.cut import Cut, cut, halves
from zoo.models.head import last_layer
from zoo.models.sides import feature_shape, is_linear, only_head
from zoo.network import Network
from zoo.recipe import Recipe, unfreezings
from zoo.watch import Progress

if TYPE_CHECKING:
    from torch import nn

_A_LAYER = 2  # tensors: a weight and a bias


def build(
    recipe: Recipe, classes: int, progress: Progress | None = None
) -> tuple[Network, Network]:
    """Return the network that the recipe starts from, and the one to train, in eval mode.

    A network to be trained whole from random weights is made for the classes at once; any other
    gets a new head, so that what is frozen does not depend on the classes.
    """
    whole = recipe.task == "reconstruct"
    scratch = not recipe.freeze and recipe.head == "linear"
    model, variant, seed = _model(recipe), dict(recipe.variant), recipe.seed
    if scratch and not whole and (recipe.weights or "").lower() == "none":
        start = network.untrained(model, classes, variant=variant, seed=seed)
    else:
        start = network.pretrained(
            model, recipe.weights, variant=variant, except_head=True, seed=seed, progress=progress
        )
    start.chain.eval()
    if whole or (scratch and not start.trained and start.spec.task == "classify"):
        return start, start
    device.seed_all("head", recipe.seed)
    kind = "linear" if kind_of(recipe.head).computed else recipe.head  # as far as it is planned
    chain, spec = network.with_head(start.chain, start.spec, classes, kind)
    return start, replace(start, chain=chain.eval(), spec=spec)


def _model(recipe: Recipe) -> str | ModelSpec:
    """Return the model's name, or its row for another size of pictures. Raises UsageError."""
    if recipe.size is None:
        return recipe.model
    from zoo.models.sizes import sized

    return sized(models.resolve(recipe.model), as_size(recipe.size))


def _better_size(net: Network) -> int:
    """Return the size at which its weights were published as better than at their own, or 0."""
    if not net.trained or net.row.builder != "library" or net.origin["tag"] == "run":
        return 0
    from zoo.models import library

    return library.better_size(net.row, net.origin["tag"])


def training_chain(net: Network, classes: int, seed: int) -> nn.Sequential:
    """Return the whole chain, with the heads that exist in training only; stages are shared."""
    if not net.row.auxiliary:
        return net.chain
    module, function = net.row.auxiliary.rsplit(".", 1)
    add = getattr(importlib.import_module(module), function)
    device.seed_all("auxiliary", seed)
    chain: nn.Sequential = add(net.chain, classes)
    return chain


def examine(
    recipe: Recipe, classes: int, progress: Progress | None
) -> tuple[NetworkFacts, Network]:
    """Return the facts of a network, and the network. Raises UsageError, UnknownStage."""
    start, net = build(recipe, classes, progress)
    last = None if recipe.task == "reconstruct" else last_layer(net.chain, net.spec.head)
    per_class = _count(last) // classes if last else 0
    parts = [cut(net.chain, name) if name else None for name in _cuts(recipe, net)]
    each = [_behind(one, net, classes) for one in parts]
    _check_growth(recipe, net.chain, [found.parameters for found in each])
    less = per_class * classes
    facts = NetworkFacts(
        row=net.row,
        variant=net.variant,
        origin=net.origin,
        preprocess=net.preprocess,
        weights_sha256=state_sha256(start.chain, "" if start is net else start.spec.head),
        head=net.spec.head,
        per_class=per_class,
        why=_why_there(recipe, net.row, parts[0]) if parts[0] else "",
        cuts=tuple(replace(found, parameters=found.parameters - less) for found in each),
        better=_better_size(net),
    )
    return facts, net


def _cuts(recipe: Recipe, net: Network) -> list[str | None]:
    """Return the last frozen stage of each phase, None where everything is trained."""
    if not recipe.freeze:
        return [None]
    last = net.spec.cut
    if kind_of(recipe.head).computed:  # on what the head sees, whatever the network could train
        last = before(net.chain, net.spec.head)
    found = [recipe.cut or last]
    for _, stage in unfreezings(recipe):
        if stage != "all":
            halves(net.chain, stage)  # says what there is, where this is not
        found.append(before(net.chain, stage) if stage != "all" else "")
    return [name or None for name in found]


def _behind(parts: Cut | None, net: Network, classes: int) -> CutFacts:
    """Return what a cut leaves to train; all parameters are counted, those of each class too."""
    from torch import nn

    model = parts.trainable if parts else training_chain(net, classes, 0)
    named, own = list(model.named_parameters()), f"{net.spec.head}."
    found = CutFacts(
        name=None,
        boundary=None,
        shape=(),
        tensors="",
        frozen="",
        trained="all",
        parameters=_count(model),
        kind="deeper",
        dense=bool(parts) and all(parameter.ndim <= 2 for _, parameter in named),
        norm=any(isinstance(part, nn.BatchNorm1d) for part in model.modules()),
        old=any(not name.startswith(own) for name, _ in named),
    )
    if parts is None:
        return found
    shape = feature_shape(parts, net.preprocess)
    linear = is_linear(parts, net.chain, net.spec.head, shape)
    head = only_head(parts, net.chain, net.spec, shape)
    return replace(
        found,
        name=parts.name,
        boundary=parts.boundary,
        shape=shape,
        tensors=tensors_of(parts.frozen),
        frozen=_frozen_in_words(parts),
        trained=_trained_in_words(parts),
        kind="linear" if linear else "head" if head else "deeper",
    )


def _check_growth(recipe: Recipe, chain: nn.Sequential, counts: list[int]) -> None:
    """Raises UsageError where a phase trains no more than the one before it."""
    for number, (_, stage) in enumerate(unfreezings(recipe), start=1):
        if counts[number] <= counts[number - 1]:
            raise UsageError(
                f"--unfreeze {stage}: that is trained before already",
                f"stages: {listed(chain)}, or all; each must lie before those trained so far",
            )


def _frozen_in_words(parts: Cut) -> str:
    names = [name for name, _ in parts.frozen.named_children()]
    if "." in parts.boundary:
        names[-1] = f"up to {parts.boundary}"
    shown = f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]
    return f"{shown}: {_count(parts.frozen):,} parameters"


def _trained_in_words(parts: Cut) -> str:
    names = [name for name, _ in parts.trainable.named_children()]
    if "." in parts.boundary and names[0] == parts.boundary.split(".")[0]:
        names[0] += f" behind {parts.boundary}"
    return ", ".join(names)


def _why_there(recipe: Recipe, row: ModelSpec, parts: Cut) -> str:
    """Return why a network is cut where its row says, or before the head."""
    if kind_of(recipe.head).computed:
        return "all but the head"
    if row.task == "reconstruct":
        return "the encoder, up to its code"
    stages = _with_weights(parts.frozen)
    if row.stages == ("backbone", "head") or not stages:
        return "all but the head"
    normed = _only_norms(stages[-1]) and len(stages) > 1
    last = stages[-2] if normed else stages[-1]
    kinds = " ".join(type(part).__name__.lower() for part in last.modules())
    what = "the last layer before the head"
    if any(parameter.ndim > 2 for parameter in last.parameters()) and "att" not in kinds:
        what = "the last convolutional stage"
        normed = normed and not any(True for _ in stages[-1].buffers())  # BatchNorm is part of it
    elif "blocks" in row.stages:
        what = "the last block"
    elif len(list(last.parameters())) > _A_LAYER:
        what = "the last stage"
    return f"{what} and its norm" if normed else what


def _with_weights(chain: nn.Sequential) -> list[nn.Module]:
    """Return the parts of the chain that have parameters; those of a plain chain one by one."""
    from torch import nn

    found: list[nn.Module] = []
    for part in chain:
        if type(part) is nn.Sequential:
            found += _with_weights(part)
        elif _count(part):
            found.append(part)
    return found


def _only_norms(part: nn.Module) -> bool:
    return all(parameter.ndim == 1 for parameter in part.parameters())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
