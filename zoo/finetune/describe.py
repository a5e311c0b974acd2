"""The plan in words: a line for every choice, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo import __version__
from zoo.catalog import Preprocess
from zoo.catalog.spec import pixels
from zoo.data.ignored import of_note, told
from zoo.data.index import DatasetIndex
from zoo.finetune.choices import RATE
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.finetune.phases import Phase
from zoo.finetune.plan import Plan
from zoo.head.kinds import kind_of
from zoo.head.neighbours import size_of
from zoo.metrics import THRESHOLD
from zoo.network import record_of
from zoo.recipe import Recipe
from zoo.text import count as plural
from zoo.text import size
from zoo.weights import cache_folder

EXPORTED = 2**31  # bytes of an ONNX file
KEPT = {
    "accuracy": "epoch of best accuracy",
    "map": "epoch of best mAP",
    "macro_f1": "epoch of best macro-F1",
    "loss": "epoch of lowest loss",
    "last": "last epoch",
    "optimum": "the optimum",
    "computed": "the head as computed",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the printed plan."""

    what: str
    value: str
    reason: str


def lines(plan: Plan) -> list[Line]:
    """Return what will be done, in the order in which a person asks."""
    place, reasons, by_class = plan.device, plan.reasons, plan.recipe.task != "reconstruct"
    return [
        Line("model", _about_model(plan), _about_weights(plan.facts)),
        Line("photos", *_about_photos(plan)),
        *_about_task(plan),
        *_about_teacher(plan),
        *_about_parts(plan),
        Line("input", *_about_input(plan.preprocess, plan.facts.better)),
        Line("views", str(plan.views) if plan.views else "new in each epoch", reasons["views"]),
        *_about_mirrors(plan),
        *_about_features(plan),
        Line("device", place.name, f"{place.reason}; {plural(place.threads, 'core')}"),
        *([Line("engine", _ran(plan), reasons["engine"])] if plan.cut.name else []),
        Line("precision", place.precision, _about_precision(plan)),
        _about_training(plan),
        *_about_loss(plan.recipe),
        *([Line("head rows", "", reasons["rows"])] if reasons["rows"] else []),
        Line("kept", KEPT[plan.best], reasons["best"]),
        *([Line("balance", plan.balance, reasons["balance"])] if by_class else []),
        *_about_evidence(plan.recipe),
    ]


def _ran(plan: Plan) -> str:
    """Return the engine of the frozen part; of a job's features that which has computed them."""
    return plan.reasons.get("ran", plan.engine)


def _about_mirrors(plan: Plan) -> list[Line]:
    """Return nothing where views are mirrored as usual, or where there is but the plain one."""
    if plan.recipe.flip or plan.views == 1:
        return []
    return [Line("mirrored", "no", plan.reasons["flip"])]


_LOSSES = {  # of classes, beside cross-entropy
    "mse": "of the softmax, summed over the classes (the Brier score); the probability that is "
    "written is that softmax, with a temperature",
    "mae": "of the softmax, summed over the classes: it rewards 0 and 1, so the probability that "
    "is written may be too sure where no temperature was fitted",
    "bce": "a yes or no for each class, by its own sigmoid; the probability that is written is "
    "still the softmax of the scores, with a temperature",
}


def _about_loss(recipe: Recipe) -> list[Line]:
    """Return what is minimised in the place of cross-entropy, and what a probability is then."""
    if recipe.task != "classify" or recipe.loss not in _LOSSES:
        return []
    return [Line("loss", recipe.loss, _LOSSES[recipe.loss])]


def _about_evidence(recipe: Recipe) -> list[Line]:
    """Return what is trained beside the run itself."""
    found = []
    if recipe.seeds > 1:
        found.append(Line("seeds", str(recipe.seeds), plural(recipe.seeds - 1, "more training")))
    if recipe.folds:
        what = f"{plural(recipe.folds, 'more training')}, on all photos but a fold each"
        found.append(Line("folds", str(recipe.folds), what))
    return found


def _about_model(plan: Plan) -> str:
    chosen = [f"{name} {value}" for name, value in plan.facts.variant.items()]
    return ", ".join((plan.recipe.model, *chosen))


def _about_weights(facts: NetworkFacts) -> str:
    origin = facts.origin
    if origin["tag"] == "none":
        return "random weights: nothing is known to it yet"
    licence = f", licence {origin['licence']}" if origin.get("licence") else ""
    named = origin["tag"] if origin["tag"] not in ("file", "run") else ""
    named = f"weights {named or origin['file']}{licence}"
    taken = f"taken from the file: {origin['taken']}" if origin.get("taken") else ""
    return "; ".join(filter(None, (named, taken)))


def _about_photos(plan: Plan) -> tuple[str, str]:
    index, recipe = plan.index, plan.recipe
    counts = {part: len(index.of(part)) for part in ("train", "val", "test")}
    reason = f"{len(index.classes)} class{'es' * (len(index.classes) != 1)}"
    if entries := len(of_note(index.skipped)):
        reason += f"; {plural(entries, 'entry', 'entries')} left out, see skipped.csv"
        reason += f": {left}" if (left := told(index.skipped)) else ""
    value = ", ".join(f"{many:,} {part}" for part, many in counts.items() if many or part != "test")
    return value, "; ".join(filter(None, (reason, *_about_val(index, recipe), *index.notes)))


def _about_val(index: DatasetIndex, recipe: Recipe) -> tuple[str, str]:
    """Return where val photos come from without such a part, and what the test part is for."""
    val = ""
    if index.drawn:
        val = f"val is drawn by the seed, {100 * recipe.val_fraction:g} % of train (--val-fraction)"
    elif index.val_is_test:
        val = "val is the data set's own test part"
    many = len(index.of("test"))
    test = f"the test part of {plural(many, 'photo')} is measured on at the end, by itself"
    return val, test if many else ""


def _about_task(plan: Plan) -> list[Line]:
    """Return nothing where a photo has one class, as expected."""
    if plan.recipe.task != "multilabel":
        return []
    most = max(len(sample.labels) for sample in plan.index.samples)
    reason = f"the photos have {plural(most, 'label')} at most: yes or no for each class"
    return [Line("task", "multilabel", f"{reason}, by binary cross-entropy")]


def _about_teacher(plan: Plan) -> list[Line]:
    """Return nothing where the labels are learned."""
    recipe, index = plan.recipe, plan.index
    if recipe.teacher is None:
        return []
    labels = "the photos' labels are for measuring"
    if index.taught == "labels":
        labels = "the photos have no labels of its classes: its answers stand for them"
    elif recipe.truth:
        labels = f"the photos' labels are {100 * recipe.truth:g} % of what is learned"
    how = f"its answers to each view are learned, at a temperature of {recipe.temperature:g}"
    return [Line("teacher", recipe.teacher, f"{how}; {labels}")]


def _about_parts(plan: Plan) -> list[Line]:
    cut, facts = plan.cut, plan.facts
    if cut.name is None:
        why = "--no-freeze" if facts.trained else "from scratch"
        return [Line("trained", _about_trained(plan, cut), why)]
    why = "as asked for" if plan.recipe.cut else facts.why
    if not facts.trained:
        why += "; WARNING: these are random weights"
    return [
        Line("frozen", cut.frozen, f"cut {cut.name}: {why}"),
        Line("trained", _about_trained(plan, cut), f"{facts.head} is new ({plan.recipe.head})"),
        *(_about_phase(plan, phase) for phase in plan.phases[1:]),
    ]


def _about_trained(plan: Plan, cut: CutFacts) -> str:
    if kind_of(plan.recipe.head).word == "knn":
        rows, columns = _references(plan), cut.feature_bytes // 4
        text = f"{plan.facts.head}: {rows:,} x {columns:,} features of training photos"
        return f"{text}, {size(size_of(rows, columns))}"
    count = f"{plan.facts.parameters(cut, len(plan.index.classes)):,} parameters"
    return f"{cut.trained}: {count}" if cut.name else f"all {count}"


def _references(plan: Plan) -> int:
    """Return how many rows a head of nearest neighbours keeps."""
    return len(plan.index.of("train")) * plan.views


def _about_phase(plan: Plan, phase: Phase) -> Line:
    """Return what is trained from an epoch on."""
    how = [f"to epoch {phase.last}, {phase.solver} {phase.lr:g}"]
    if plan.facts.trained:
        how[0] += f", times {phase.below:g} for each stage below the head"
    if plan.phases[0].solved and plan.recipe.lr is None and phase.lr < RATE:
        how[0] += f" (in few steps less than {RATE:g})"
    if plan.phases[0].solved:  # whose line says nothing of training in steps
        how += [", ".join(_extras(plan.recipe))]
    what = _about_trained(plan, phase.cut)
    return Line(f"epoch {phase.first}", what, "; ".join(filter(None, (*how, phase.why))))


def _about_input(preprocess: Preprocess, better: int) -> tuple[str, str]:
    """Return the size, and how a photo comes to it. better: the size that was published as such."""
    kind = "grey" if preprocess.channels == 1 else "RGB"
    how = f"centre {preprocess.crop:.3g}" if preprocess.fit == "crop" else preprocess.fit
    how = f"{how}, {preprocess.interpolation}"
    if better > max(preprocess.shape):
        how += f"; published as better at {better}, and slower: --size {better}"
    return f"{pixels(preprocess.size)} {kind}", how


def _about_features(plan: Plan) -> list[Line]:
    """Return the line of the first phase's features; the other phases say it of themselves."""
    cut, phase = plan.cut, plan.phases[0]
    if cut.name is None:
        return []
    text = f"{' x '.join(map(str, cut.shape))} after {cut.boundary}"
    if not phase.kept:
        return [Line("features", f"{text}, not kept", phase.why)]
    each = cut.feature_bytes
    place = plan.reasons.get("features", cache_folder() / "features")
    value = f"{size(each * plan.rows)} in {place}"
    return [
        Line("features", value, f"{text}, {size(each)} a view, {plan.rows:,} views; {phase.why}")
    ]


def _about_training(plan: Plan) -> Line:
    """Return who trains the first phase, how long, and why."""
    recipe, reasons = plan.recipe, plan.reasons
    kind = kind_of(recipe.head)
    if kind.word == "knn":
        how = f"{kind.number} nearest by cosine, whitened"
        return Line("training", how, f"{reasons['solver']}; {_exportable(plan)}")
    if kind.word == "text":
        how = "rows of class names, blended with solved rows"
        return Line("training", how, f"texts of {recipe.text}; {reasons['solver']}")
    if kind.computed:
        how = "by cosine" if kind.metric == "cosine" else "by Mahalanobis, one covariance"
        return Line("training", f"class means, {how}", reasons["solver"])
    if plan.phases[0].solved:
        penalty = f"penalty {recipe.penalty:g}" if recipe.penalty else "penalty by cross-validation"
        smooth = f", label smoothing {recipe.label_smoothing:g}" * (recipe.label_smoothing > 0)
        return Line("training", f"lbfgs, {penalty}{smooth}", reasons["solver"])
    epochs = plural(recipe.epochs, "epoch")
    if recipe.minutes:
        epochs = f"at most {epochs} and {recipe.minutes:g} min"
    return Line(
        "training",
        ", ".join((f"{plan.solver} {plan.phases[0].lr:g}", *_extras(recipe), epochs)),
        f"{reasons['solver']}; {reasons['lr']}; {reasons['threads']}",
    )


def _exportable(plan: Plan) -> str:
    """Return whether the network with its rows fits into an exported file."""
    own = size_of(_references(plan), plan.cut.feature_bytes // 4)
    if own + 4 * plan.facts.row.params > EXPORTED:
        return "WARNING: too large to be exported, an ONNX file holds 2 GB"
    return f"the exported file has these {size(own)}, too"


def _extras(recipe: Recipe) -> list[str]:
    """Return what training in steps was asked for besides the solver, its rate and the epochs."""
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


def _about_precision(plan: Plan) -> str:
    if plan.device.precision == "fp32":
        return "answers do not depend on the machine; --precision bf16 is faster, at a price"
    return "asked for; agreement with fp32 is measured at the end"


def record(plan: Plan) -> dict[str, Any]:
    """Return what run.json says from the start."""
    facts, cut = plan.facts, plan.cut
    return {
        "zoo": __version__,
        "model": plan.recipe.model,
        "spec": record_of(facts.row),
        "weights": facts.origin,
        "weights_sha256": facts.weights_sha256,
        "classes": list(plan.index.classes),
        "task": plan.recipe.task,
        **({"threshold": THRESHOLD} if plan.recipe.task == "multilabel" else {}),
        "best_by": plan.best,
        "variant": facts.variant,
        "head": plan.recipe.head,
        "views": plan.views,
        "view_seed": plan.view_seed,
        "flip": plan.recipe.flip,
        "cut": cut.name,
        "boundary": cut.boundary,
        "phases": [phase.record() for phase in plan.phases],
        "feature_bytes": plan.feature_bytes if cut.name and plan.views else None,
        "preprocess": plan.preprocess.to_dict(),
        "precision": plan.device.precision,
        "engine": _ran(plan),
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
