"""The choices that a plan makes for the user, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from zoo.catalog import Preprocess
from zoo.data.index import DatasetIndex
from zoo.data.samples import evenly
from zoo.data.views import small_and_grey
from zoo.device import Device
from zoo.errors import UsageError
from zoo.finetune.facts import NetworkFacts
from zoo.head.kinds import kind_of
from zoo.metrics import Array
from zoo.recipe import Recipe, table
from zoo.text import BYTES, amount, size
from zoo.train.batches import SMALL

T = TypeVar("T")
COMPUTED = "computed"  # stands for the solver of a head that is written down from features
Choice = tuple[T, str]  # with its reason

RATE = 1e-3
_LAYER_DECAY = 0.8
_SMALL_WORK = 1e8  # multiply-adds of a step below which a second thread costs more than it helps
_IMBALANCE = 3.0
# Training photos up to which there are more views: measured to pay on 245 and 400
# (`python -m benchmarks.views`); with many more each is a long pass.
FEW = 1000
_VIEWS = {"solved": 2, "deeper": 4}
MIRRORS = "small grey pictures, as of digits and letters, are others in a mirror; --flip mirrors"
_LOOKED = 24  # photos that say whether all are small and grey
_BUDGET = 50  # per cent of the free disk for kept features


def rate_in_words(recipe: Recipe, trained: bool, scales: bool) -> str:
    """Return where the learning rate is from, and how it goes on.

    trained: whether the network was. scales: a head is trained on standardised features.
    """
    whose = "as asked for" if recipe.lr else "the default"
    then = {
        "cosine": "then cosine",
        "exponential": f"then times {recipe.decay:g} an epoch",
        "constant": "then constant",
        "head-then-all": "then cosine",
    }[recipe.schedule]
    then = f"warm-up, {then}" if recipe.warmup else then.removeprefix("then ")
    if scales:
        return f"rate: {whose}, on standardised features; {then}"
    if trained:
        falling = f", times {layer_decay(recipe, trained):g} for each stage below"
        return f"rate of the new head: {whose}; pretrained layers a tenth{falling}; {then}"
    return f"rate: {whose}, the trained layers are new; {then}"


def layer_decay(recipe: Recipe, trained: bool) -> float:
    """Return the factor on the rate for each stage further from the head.

    It is 1 where nothing is pretrained.
    """
    if recipe.layer_decay is not None:
        return recipe.layer_decay
    return _LAYER_DECAY if trained else 1.0


def threads_of(recipe: Recipe, facts: NetworkFacts, classes: int, place: Device) -> Choice[int]:
    """Return how many threads train: a step of a small network is over before threads have met."""
    last = facts.cuts[-1]
    work = facts.parameters(last, classes) if last.dense else facts.row.macs
    if 3 * work * recipe.batch_size < _SMALL_WORK:
        return 1, "small steps are quickest on one thread"
    return place.threads, f"{place.threads} threads"


def engine_of(recipe: Recipe, place: Device) -> Choice[str]:
    """Return who runs the frozen part, and why. Raises UsageError."""
    from zoo.engine.select import choose

    if not recipe.freeze:
        wanted = "torch" if recipe.engine == "auto" else recipe.engine
        if wanted != "torch":
            raise UsageError(
                f"--engine {wanted} with --no-freeze: what is trained runs in torch",
                "leave it out: an engine is of the frozen part",
            )
        choose("torch", place.name, place.precision)
        return "torch", "what is trained runs in torch"
    return choose(recipe.engine, place.name, place.precision)


def view_count(
    recipe: Recipe, frozen: bool, preprocess: Preprocess, photos: int, kind: str
) -> Choice[int]:
    """Return the views of each photo, 0 for new ones in each epoch, and why.

    frozen: whether there is a frozen part. photos: to train on. kind:
    `solved` or `head` where nothing but the head is trained, `deeper` where more is.
    """
    if recipe.augment != "none":
        return 0, f"--augment {recipe.augment}, new in each epoch"
    if recipe.views is not None:
        return recipe.views, "as asked for; view 0 is the plain centre view"
    if recipe.task == "reconstruct":
        return 1, "the plain view is what is to be given back"
    if max(preprocess.shape) <= SMALL and not (frozen and kind == "deeper"):
        moved = "" if recipe.distort == "none" else f", with {recipe.distort} distortions"
        return 1, f"pictures this small are seen whole{moved}"
    crops = "crops, mirrored and not" if recipe.flip else "crops, not mirrored"
    if recipe.teacher:
        number = min(_VIEWS["deeper"], recipe.epochs)
        return number, "one in each epoch, in turn; the teacher sees each once; --views"
    if not frozen:
        return 0, "random crops, mirrored" if recipe.flip else "random crops"
    if kind == "head":
        return 1, "the plain view: more did not help a head trained in steps, and cost a pass each"
    if photos > FEW:
        return (
            1,
            f"the plain view: with more than {FEW:,} photos another is a long pass; --views 2",
        )
    why = f"{crops}, up to {FEW:,} photos; --views 1 is quicker"
    in_turn = kind == "deeper" and not recipe.unfreeze and recipe.schedule != "head-then-all"
    if in_turn and recipe.epochs < _VIEWS[kind]:
        return recipe.epochs, f"each epoch has its own, and there are {recipe.epochs}; {why}"
    return _VIEWS[kind], why


def mirrored(index: DatasetIndex) -> bool:
    """Return whether views may be mirrored where nobody says so: not those of digits or letters."""
    some = evenly(index.of("train"), _LOOKED)
    return not small_and_grey(index.root / sample.path for sample in some)


def solver_of(recipe: Recipe, linear: bool, kept: bool) -> Choice[str]:
    """Return who trains the head, and why. Raises UsageError.

    linear: it is one layer on the features. kept: those are on disk.
    """
    if kind_of(recipe.head).computed:
        return _computed(recipe, _whats_missing(recipe, linear, kept) if not linear or not kept
                         or recipe.task != "classify" else "")  # fmt: skip
    able = linear and kept and recipe.task == "classify" and recipe.balance != "sampler"
    able = able and recipe.loss in ("auto", "cross_entropy")
    if recipe.optimizer == "lbfgs" and not able:
        raise UsageError(
            "--solver lbfgs finds the optimum of a linear head on kept features, "
            f"and {_whats_missing(recipe, linear, kept)}",
            "use --solver adamw, or leave it to the tool",
        )
    solver, why = _chosen_solver(recipe, able, _whats_missing(recipe, linear, kept))
    if recipe.penalty is not None and solver != "lbfgs":
        raise UsageError(
            f"--penalty {recipe.penalty:g} is of lbfgs, and the solver is {solver}: {why}",
            "leave it out; --weight-decay is the one of training in steps",
        )
    return solver, why


def _computed(recipe: Recipe, missing: str) -> Choice[str]:
    """Return that nothing is trained, and why. Raises UsageError for what would do nothing."""
    head, kind = recipe.head, kind_of(recipe.head)
    if missing or not recipe.freeze:
        raise UsageError(
            f"--head {head} is computed from kept features of photos with one class each, and "
            f"{missing or 'everything is trained'}",
            "leave the other settings out, or use --head linear or mlp:512",
        )
    idle = ("optimizer", "penalty", "label_smoothing", "loss", *_OF_STEPS)
    named = [name for name in idle if getattr(recipe, name) != default(name)]
    named += ["balance"] * (recipe.balance not in ("auto", "none"))
    if named:
        flag = {"optimizer": "solver"}.get(named[0], named[0]).replace("_", "-")
        raise UsageError(
            f"--{flag} with --head {head} would do nothing: the head is computed, not trained",
            f"leave --{flag} out, or use --head linear or mlp:512",
        )
    if kind.word == "knn":
        return COMPUTED, "the nearest training photos vote: nothing is trained"
    if kind.word == "text":
        return COMPUTED, "nothing is trained"
    return COMPUTED, "a mean of the features for each class: nothing is trained"


def _chosen_solver(recipe: Recipe, able: bool, missing: str) -> Choice[str]:
    """Return the solver and why; `missing` is why where lbfgs is not able. Raises UsageError."""
    first = recipe.schedule == "head-then-all"  # what is of steps is of those that follow
    steps = [name for name in _OF_STEPS if getattr(recipe, name) != default(name)]
    if recipe.optimizer == "lbfgs" and steps and not first:
        raise UsageError(
            f"--solver lbfgs computes the optimum at once: {', '.join(steps)} would do nothing",
            "use --solver adamw, or leave the others out; --schedule head-then-all goes on in "
            "steps behind it",
        )
    if recipe.optimizer != "auto":
        return recipe.optimizer, "as asked for"
    if not able:
        return "adamw", missing
    if first:
        return "lbfgs", "a linear head on kept features has one optimum: it is computed first"
    if steps:
        return "adamw", f"{steps[0].replace('_', '-')} is of training in steps"
    return "lbfgs", "a linear head on kept features has one optimum: it is computed"


# Settings that say how training in steps goes; lbfgs has no use for them.
_OF_STEPS = (
    "unfreeze", "epochs", "lr", "batch_size", "weight_decay", "momentum", "decay", "warmup", "ema",
    "patience", "minutes", "clip", "accumulate", "compile", "mixup", "cutmix", "layer_decay",
    "best", "schedule",
)  # fmt: skip


def default(name: str) -> object:
    """Return the default of a setting."""
    return table()[name].default


def _whats_missing(recipe: Recipe, linear: bool, kept: bool) -> str:
    if not recipe.freeze:
        return "everything is trained"
    if recipe.task != "classify":
        return f"the task is {recipe.task}"
    if not linear:
        return "more than a linear head is trained"
    if kept and recipe.loss not in ("auto", "cross_entropy"):
        return f"the optimum that is computed is of cross_entropy, not of {recipe.loss}"
    return "no features are kept" if not kept else "the sampler draws anew in each epoch"


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes for kept features, and what they are a part of."""

    bytes: int
    whose: str

    def less(self, taken: int) -> Room:
        """Return what is left of it."""
        return replace(self, bytes=self.bytes - taken)


def budget(recipe: Recipe, free: int) -> Room:
    """Return the room for kept features. Raises UsageError."""
    text = recipe.cache_budget or f"{_BUDGET} %"
    share, number = amount(text, {"%": 1.0}), amount(text, BYTES)
    if number is None and (share is None or share > 100):
        raise UsageError(
            f"--cache-budget {text} is no amount of disk",
            "give a number with B, kB, MB, GB or TB, or a share of the free disk up to 100%, "
            "as 20GB or 50%",
        )
    if share is not None:
        return Room(int(free * share / 100), f"{share:g} % of the {size(free)} that are free")
    return Room(int(number or 0), "--cache-budget")


def keeping(needed: int, views: int, room: Room) -> Choice[bool]:
    """Return whether the frozen part's output is kept on disk, and why."""
    if views == 0:
        return False, "views are new in each epoch: the frozen part runs in each, without gradients"
    if needed <= room.bytes:
        return True, f"{size(needed)} of at most {size(room.bytes)} ({room.whose})"
    return False, (
        f"{size(needed)} are more than {size(room.bytes)} ({room.whose}): the frozen part runs in "
        "each epoch, without gradients"
    )


def epoch_kept(recipe: Recipe, index: DatasetIndex) -> Choice[str]:
    """Return what chooses the epoch that is kept: nothing where the val part is a test part."""
    if recipe.best != "auto":
        return recipe.best, "as asked for"
    if index.val_is_test:
        return "last", "the val part is the data set's test part: no epoch is chosen on it"
    if recipe.task == "reconstruct":
        return "loss", "on the val photos"
    best = "map" if recipe.task == "multilabel" else "accuracy"
    return best, "on the val photos, which flatters a little; --best last chooses none"


def balancing(recipe: Recipe, index: DatasetIndex) -> tuple[str, tuple[float, ...] | None, str]:
    """Return the kind, the weights of the classes in the loss, and the reason.

    Of several labels a photo a class's weight is what a photo with it counts more than one without.
    """
    if recipe.teacher:
        return "none", None, "the teacher's answers are learned, however many of a class"
    counts = np.array(index.counts("train"), float)
    ratio = counts.max() / counts.min()
    kind, why = recipe.balance, "as asked for"
    if kind == "auto":
        kind = "weights" if ratio > _IMBALANCE else "none"
        why = f"the largest class has {ratio:.1f} times the photos of the smallest"
    if kind_of(recipe.head).computed:
        return "none", None, "a head that is computed counts its photos as they are"
    if recipe.task == "multilabel":
        return _of_labels(recipe, counts, len(index.of("train")))
    values = counts.sum() / (len(counts) * counts)
    return kind, tuple(values.tolist()) if kind == "weights" else None, why


def _of_labels(
    recipe: Recipe, counts: Array, photos: int
) -> tuple[str, tuple[float, ...] | None, str]:
    """Return what `balancing` does where each class is a yes or a no."""
    if recipe.balance != "weights":
        why = "weights raise probabilities; --balance weights where rare labels are missed"
        return "none", None, "as asked for" if recipe.balance == "none" else why
    values = np.maximum(photos - counts, 1) / counts
    return "weights", tuple(values.tolist()), "as asked for; photos without to photos with a label"
