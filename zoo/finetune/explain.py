"""The plan in words: a line for every choice, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.catalog import Preprocess
from zoo.data.index import DatasetIndex
from zoo.weights import cache_folder

if TYPE_CHECKING:
    from torch import nn

    from zoo.finetune.plan import Plan
    from zoo.network import Network


KEPT = {
    "accuracy": "epoch of best accuracy",
    "macro_f1": "epoch of best macro-F1",
    "loss": "epoch of lowest loss",
    "last": "last epoch",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the printed plan."""

    what: str
    value: str
    reason: str


def lines(plan: Plan) -> list[Line]:
    """What will be done, in the order in which a person asks."""
    place, reasons = plan.device, plan.reasons
    return [
        Line("model", about_model(plan), about_weights(plan.start)),
        Line("photos", *about_photos(plan.index)),
        *about_parts(plan),
        Line("input", *about_input(plan.preprocess)),
        Line("views", str(plan.views) if plan.views else "new in each epoch", reasons["views"]),
        *about_features(plan),
        Line("device", place.name, f"{place.reason}; {plural(place.threads, 'core')}"),
        Line("precision", place.precision, about_precision(plan)),
        Line("training", about_training(plan), f"{reasons['lr']}; {reasons['threads']}"),
        Line("kept", KEPT[plan.best], reasons["best"]),
        *(
            []
            if plan.recipe.task == "reconstruct"
            else [Line("balance", plan.balance, reasons["balance"])]
        ),
    ]


def about_model(plan: Plan) -> str:
    chosen = [f"{name} {value}" for name, value in plan.start.variant.items()]
    return ", ".join((plan.recipe.model, *chosen))


def about_weights(start: Network) -> str:
    origin = start.origin
    if origin["tag"] == "none":
        return "random weights: nothing is known to it yet"
    licence = f", licence {origin['licence']}" if origin.get("licence") else ""
    named = origin["tag"] if origin["tag"] not in ("file", "run") else ""
    return f"weights {named or origin['file']}{licence}"


def about_photos(index: DatasetIndex) -> tuple[str, str]:
    train, val = len(index.of("train")), len(index.of("val"))
    reason = "classes" if len(index.classes) != 1 else "class"
    reason = f"{len(index.classes)} {reason}"
    if index.skipped:
        reason += f"; {len(index.skipped)} entries left out, see skipped.csv"
    return f"{train} train, {val} val", "; ".join((reason, *index.notes))


def about_parts(plan: Plan) -> list[Line]:
    if plan.cut is None:
        why = "--no-freeze" if plan.start.trained else "from scratch"
        return [Line("trained", f"all {count(plan.training_chain)} parameters", why)]
    cut = plan.cut
    names = [name for name, _ in cut.frozen.named_children()]
    shown = f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]
    why = why_there(plan) if plan.recipe.cut is None else "as asked for"
    if not plan.start.trained:
        why += "; WARNING: these are random weights"
    trained = ", ".join(name for name, _ in cut.trainable.named_children())
    new = f"{plan.head} is new ({plan.recipe.head})"
    return [
        Line("frozen", f"{shown}: {count(cut.frozen)} parameters", f"cut {cut.name}: {why}"),
        Line("trained", f"{trained}: {count(cut.trainable)} parameters", new),
    ]


def why_there(plan: Plan) -> str:
    """Why a network is cut where its row says."""
    row = plan.start.row
    if row.task == "reconstruct":
        return "the encoder, up to its code"
    chained = row.stages != ("backbone", "head")
    assert plan.cut is not None
    convolutional = any("Conv" in type(part).__name__ for part in plan.cut.frozen.modules())
    return "the last convolutional stage" if chained and convolutional else "all but the head"


def count(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"


def about_input(preprocess: Preprocess) -> tuple[str, str]:
    kind = "grey" if preprocess.channels == 1 else "RGB"
    how = f"centre {preprocess.crop:.3g}" if preprocess.fit == "crop" else preprocess.fit
    return f"{preprocess.size} x {preprocess.size} {kind}", f"{how}, {preprocess.interpolation}"


def about_features(plan: Plan) -> list[Line]:
    if plan.cut is None:
        return []
    text = " x ".join(str(length) for length in plan.feature_shape)
    each = size(plan.feature_bytes / plan.rows)
    reason = f"{text} after {plan.cut.boundary}, {each} a view, {plan.rows:,} views, computed once"
    return [
        Line("features", f"{size(plan.feature_bytes)} in {cache_folder() / 'features'}", reason)
    ]


def about_training(plan: Plan) -> str:
    recipe = plan.recipe
    extras = [
        f"momentum {recipe.momentum:g}" if recipe.momentum else "",
        f"distort {recipe.distort} x {recipe.distort_strength:g}" * (recipe.distort != "none"),
        f"mean of weights {recipe.ema:g}" if recipe.ema else "",
    ]
    first = f"{recipe.optimizer} {plan.lr:g}"
    return ", ".join((first, *filter(None, extras), plural(recipe.epochs, "epoch")))


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def about_precision(plan: Plan) -> str:
    if plan.cut is None:
        return "answers do not depend on the machine"
    if plan.device.precision == "fp32":
        return "answers do not depend on the machine; --precision bf16 is faster, at a price"
    return "asked for; agreement with fp32 is measured at the end"


def size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
