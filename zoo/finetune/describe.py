"""The plan in words: a line for every choice, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__
from zoo.catalog import Preprocess
from zoo.data.ignored import told
from zoo.data.index import DatasetIndex
from zoo.finetune.plan import Line
from zoo.metrics import THRESHOLD
from zoo.text import count as plural
from zoo.text import size
from zoo.weights import cache_folder

if TYPE_CHECKING:
    from torch import nn

    from zoo.finetune.phases import Phase
    from zoo.finetune.plan import Plan
    from zoo.models.cut import Cut
    from zoo.network import Network
    from zoo.recipe import Recipe


KEPT = {
    "accuracy": "epoch of best accuracy",
    "map": "epoch of best mAP",
    "macro_f1": "epoch of best macro-F1",
    "loss": "epoch of lowest loss",
    "last": "last epoch",
    "optimum": "the optimum",
}


def lines(plan: Plan) -> list[Line]:
    """What will be done, in the order in which a person asks."""
    place, reasons = plan.device, plan.reasons
    return [
        Line("model", about_model(plan), about_weights(plan.start)),
        Line("photos", *about_photos(plan)),
        *about_task(plan),
        *about_parts(plan),
        Line("input", *about_input(plan.preprocess)),
        Line("views", str(plan.views) if plan.views else "new in each epoch", reasons["views"]),
        *about_mirrors(plan),
        *about_features(plan),
        Line("device", place.name, f"{place.reason}; {plural(place.threads, 'core')}"),
        *([Line("engine", plan.engine, reasons["engine"])] if plan.cut else []),
        Line("precision", place.precision, about_precision(plan)),
        about_training(plan),
        Line("kept", KEPT[plan.best], reasons["best"]),
        *(
            []
            if plan.recipe.task == "reconstruct"
            else [Line("balance", plan.balance, reasons["balance"])]
        ),
        *about_evidence(plan.recipe),
    ]


def about_mirrors(plan: Plan) -> list[Line]:
    """Nothing where views are mirrored as usual, or where there is but the plain one."""
    if plan.recipe.flip or plan.views == 1:
        return []
    return [Line("mirrored", "no", plan.reasons["flip"])]


def about_evidence(recipe: Recipe) -> list[Line]:
    """What is trained beside the run itself."""
    found = []
    if recipe.seeds > 1:
        found.append(Line("seeds", str(recipe.seeds), plural(recipe.seeds - 1, "more training")))
    if recipe.folds:
        what = f"{plural(recipe.folds, 'more training')}, on all photos but a fold each"
        found.append(Line("folds", str(recipe.folds), what))
    return found


def about_model(plan: Plan) -> str:
    chosen = [f"{name} {value}" for name, value in plan.start.variant.items()]
    return ", ".join((plan.recipe.model, *chosen))


def about_weights(start: Network) -> str:
    origin = start.origin
    if origin["tag"] == "none":
        return "random weights: nothing is known to it yet"
    licence = f", licence {origin['licence']}" if origin.get("licence") else ""
    named = origin["tag"] if origin["tag"] not in ("file", "run") else ""
    named = f"weights {named or origin['file']}{licence}"
    return "; ".join(filter(None, (named, start.said_of_file)))


def about_photos(plan: Plan) -> tuple[str, str]:
    index, recipe = plan.index, plan.recipe
    counts = {part: len(index.of(part)) for part in ("train", "val", "test")}
    reason = "classes" if len(index.classes) != 1 else "class"
    reason = f"{len(index.classes)} {reason}"
    if index.skipped:
        entries = "1 entry" if len(index.skipped) == 1 else f"{len(index.skipped):,} entries"
        reason += f"; {entries} left out, see skipped.csv"
        reason += f": {left}" if (left := told(index.skipped)) else ""
    value = ", ".join(f"{many:,} {part}" for part, many in counts.items() if many or part != "test")
    return value, "; ".join(filter(None, (reason, *about_val(index, recipe), *index.notes)))


def about_val(index: DatasetIndex, recipe: Recipe) -> tuple[str, str]:
    """Where the val photos come from where there is no such part, and what the test part is for."""
    val = ""
    if index.drawn:
        val = f"val is drawn by the seed, {100 * recipe.val_fraction:g} % of train (--val-fraction)"
    elif index.val_is_test:
        val = "val is the data set's own test part"
    many = len(index.of("test"))
    test = f"the test part of {plural(many, 'photo')} is measured on at the end, by itself"
    return val, test if many else ""


def about_task(plan: Plan) -> list[Line]:
    """Nothing where a photo has one class, as expected."""
    if plan.recipe.task != "multilabel":
        return []
    most = max(len(sample.labels) for sample in plan.index.samples)
    reason = f"the photos have {plural(most, 'label')} at most: yes or no for each class"
    return [Line("task", "multilabel", f"{reason}, by binary cross-entropy")]


def about_parts(plan: Plan) -> list[Line]:
    if plan.cut is None:
        why = "--no-freeze" if plan.start.trained else "from scratch"
        return [Line("trained", f"all {count(plan.training_chain)} parameters", why)]
    cut, known = plan.cut, plan.known
    why = "as asked for"
    if plan.recipe.cut is None:
        why = known.why if known else why_there(plan)
    if not plan.start.trained:
        why += "; WARNING: these are random weights"
    new = f"{plan.head} is new ({plan.recipe.head})"
    frozen, trained = (
        (known.frozen, f"{known.trained}: {known.parameters(len(plan.index.classes)):,} parameters")
        if known
        else (about_frozen(cut), about_trained(cut))
    )
    return [
        Line("frozen", frozen, f"cut {cut.name}: {why}"),
        Line("trained", trained, new),
        *(about_phase(plan, phase) for phase in plan.phases[1:]),
    ]


def about_frozen(cut: Cut) -> str:
    names = [name for name, _ in cut.frozen.named_children()]
    if "." in cut.boundary:
        names[-1] = f"up to {cut.boundary}"
    shown = f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]
    return f"{shown}: {count(cut.frozen)} parameters"


def about_trained(cut: Cut) -> str:
    return f"{names_trained(cut)}: {count(cut.trainable)} parameters"


def names_trained(cut: Cut) -> str:
    names = [name for name, _ in cut.trainable.named_children()]
    if "." in cut.boundary and names[0] == cut.boundary.split(".")[0]:
        names[0] += f" behind {cut.boundary}"
    return ", ".join(names)


def about_phase(plan: Plan, phase: Phase) -> Line:
    """What is trained from an epoch on."""
    from zoo.finetune.choices import RATE

    what = about_trained(phase.parts) if phase.parts else f"all {count(plan.chain)} parameters"
    how = [f"to epoch {phase.last}, {phase.solver} {phase.lr:g}"]
    if plan.start.trained:
        how[0] += f", times {phase.below:g} for each stage below the head"
    if plan.phases[0].solved and plan.recipe.lr is None and phase.lr < RATE:
        how[0] += f" (in few steps less than {RATE:g})"
    if plan.phases[0].solved:  # whose line says nothing of training in steps
        how += [", ".join(extras(plan.recipe))]
    return Line(f"epoch {phase.first}", what, "; ".join(filter(None, (*how, phase.why))))


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
    """Return the line of the first phase's features; the other phases say it of themselves."""
    if plan.cut is None:
        return []
    phase = plan.phases[0]
    text = " x ".join(str(length) for length in phase.shape)
    if not phase.kept:
        return [Line("features", f"{text} after {plan.cut.boundary}, not kept", phase.why)]
    each = 4 * int(np.prod(phase.shape))
    reason = f"{text} after {plan.cut.boundary}, {size(each)} a view, {plan.rows:,} views"
    where = cache_folder() / "features"
    return [
        Line("features", f"{size(each * plan.rows)} in {where}", f"{reason}; {phase.why}"),
    ]


def about_training(plan: Plan) -> Line:
    """Who trains the first phase, how long, and why."""
    recipe, reasons = plan.recipe, plan.reasons
    if plan.phases[0].solved:
        penalty = f"penalty {recipe.penalty:g}" if recipe.penalty else "penalty by cross-validation"
        smooth = f", label smoothing {recipe.label_smoothing:g}" * (recipe.label_smoothing > 0)
        return Line("training", f"lbfgs, {penalty}{smooth}", reasons["solver"])
    epochs = plural(recipe.epochs, "epoch")
    if recipe.minutes:
        epochs = f"at most {epochs} and {recipe.minutes:g} min"
    return Line(
        "training",
        ", ".join((f"{plan.solver} {plan.lr:g}", *extras(recipe), epochs)),
        f"{reasons['solver']}; {reasons['lr']}; {reasons['threads']}",
    )


def extras(recipe: Recipe) -> list[str]:
    """What training in steps was asked for besides the solver, its rate and the epochs."""
    waits = plural(recipe.patience, "epoch") if recipe.patience else ""
    found = [
        f"momentum {recipe.momentum:g}" if recipe.momentum else "",
        f"distort {recipe.distort} x {recipe.distort_strength:g}" * (recipe.distort != "none"),
        f"augment {recipe.augment}" * (recipe.augment != "none"),
        f"mixup {recipe.mixup:g}" if recipe.mixup else "",
        f"cutmix {recipe.cutmix:g}" if recipe.cutmix else "",
        f"label smoothing {recipe.label_smoothing:g}" if recipe.label_smoothing else "",
        f"mean of weights {recipe.ema:g}" if recipe.ema else "",
        f"gradients clipped at {recipe.clip:g}" if recipe.clip else "",
        f"steps of {recipe.accumulate} batches" if recipe.accumulate > 1 else "",
        "compiled" if recipe.compile else "",
        f"ending after {waits} without a better one" if waits else "",
    ]
    return [text for text in found if text]


def about_precision(plan: Plan) -> str:
    if plan.device.precision == "fp32":
        return "answers do not depend on the machine; --precision bf16 is faster, at a price"
    return "asked for; agreement with fp32 is measured at the end"


def record(plan: Plan) -> dict[str, Any]:
    """What run.json says from the start."""
    from zoo.network import record_of

    return {
        "zoo": __version__,
        "model": plan.recipe.model,
        "spec": record_of(plan.start.row),
        "weights": plan.start.origin,
        "weights_sha256": plan.weights_sha256,
        "classes": list(plan.index.classes),
        "task": plan.recipe.task,
        **({"threshold": THRESHOLD} if plan.recipe.task == "multilabel" else {}),
        "best_by": plan.best,
        "variant": plan.start.variant,
        "head": plan.recipe.head,
        "cut": plan.cut.name if plan.cut else None,
        "boundary": plan.cut.boundary if plan.cut else None,
        "phases": [phase.record() for phase in plan.phases],
        "feature_bytes": plan.feature_bytes if plan.cut and plan.views else None,
        "preprocess": plan.preprocess.to_dict(),
        "precision": plan.device.precision,
        "engine": plan.engine,
        "device": plan.device.name,
        "data": {
            "name": plan.recipe.data,
            "root": str(plan.index.root.absolute()),
            "fingerprint": plan.index.fingerprint,
            "drawn": plan.index.drawn,
            **{part: len(plan.index.of(part)) for part in ("train", "val", "test")},
        },
        "plan": [[line.what, line.value, line.reason] for line in lines(plan)],
    }
