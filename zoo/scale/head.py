"""A fine-tune over the features of a job: its parts are the photos and what is frozen of a network.

Classes and val photos are those that `zoo finetune` takes of the same folder. Features of more
than IN_MEMORY bytes stay in files: each step of a solver is a pass over them, and a training in
steps reads the rows of each batch. In a team that trains in steps, each process has the parts that
are its own, see `zoo.train.division`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from zoo import device
from zoo.data.index import DatasetIndex
from zoo.errors import UsageError
from zoo.finetune import checks
from zoo.finetune.asked import Asked
from zoo.finetune.choices import engine_of
from zoo.finetune.plan import Plan, plan_of
from zoo.finetune.prepare import Prepared, known_of, now
from zoo.head.kinds import kind_of
from zoo.head.stored import Stored
from zoo.metrics import Array
from zoo.recipe import Recipe
from zoo.scale import launch, team
from zoo.scale.answers import model_sha256
from zoo.scale.copied import Copied, copied, held
from zoo.scale.listed import NAMES, Listed
from zoo.scale.parts import needed
from zoo.scale.plan import Settings, Shards, opened
from zoo.scale.store import check_installed
from zoo.text import size
from zoo.train.batches import FeatureBatches, steps
from zoo.train.distributed import FEWEST, SINGLE, Ranks
from zoo.train.division import Division
from zoo.train.loggers import kinds
from zoo.watch import Progress

IN_MEMORY = 256_000_000  # bytes of features


@dataclass(frozen=True, slots=True)
class Together:
    """Who fine-tunes together: torchrun's ranks, or Ray, which solves heads alone."""

    ranks: Ranks = SINGLE
    ray: str | None = None  # its address


ALONE = Together()


def prepare(
    recipe: Recipe, progress: Progress, loading: Progress | None = None, who: Together = ALONE
) -> Prepared:
    """Return the plan of a fine-tune on the features of a job, with them; `with` removes the copy.

    At the end of `with` all ranks but the main one do what that one asks, where a head is solved.

    Raises UsageError where the job has others than what is trained takes, IncompleteError,
    DataError.
    """
    check_installed()
    began = now()
    shards = _job(recipe)
    settings, drawn_from = shards.plan.settings, recipe
    recipe = _settled(recipe, settings)
    listed = Listed.of(shards, recipe)
    index = listed.index(shards, progress)
    needed = settings.width * 4 * len(index.samples)
    recipe = replace(recipe, val_fraction=listed.fraction, cache_budget=f"{needed}B")
    where = device.choose(recipe.device, recipe.precision)
    engine, why = engine_of(recipe, where)
    asked = Asked(recipe, index, where, engine, {"flip": "", "engine": why})
    facts, net = known_of(asked, loading)
    plan, stored = plan_of(asked, facts), needed > IN_MEMORY
    _check(plan, settings, stored)
    division = _division(plan, listed, who)
    prepared = Prepared(_told(plan, shards, stored), net, began=began)
    with ExitStack() as closing:
        place = closing.enter_context(held())
        files = copied(shards, listed, place, _wanted(listed, division), progress)
        found: dict[str, Array | Stored] = {**files}
        if not stored:
            found = {name: each[:] for name, each in files.items()}
        elif plan.solved_only:
            make = partial(_share, shards.store.place, drawn_from)
            found["train"] = _solved_by(who, files["train"], index, make, closing)
        prepared.source = _source(plan, found, division)
        prepared.closing = closing.pop_all()
    return prepared


def _job(recipe: Recipe) -> Shards:
    """Return the shards of a job of features. Raises UsageError."""
    shards = opened(recipe.data)
    if shards.plan.settings.what != "features":
        raise UsageError(
            f"{recipe.data} is a job of predictions, which teach nothing",
            f"`zoo plan PHOTOS -o JOB --model {recipe.model} --what features`, then `zoo work JOB`",
        )
    return shards


def _settled(recipe: Recipe, settings: Settings) -> Recipe:
    """Return the recipe as features of plain views can be learned from. Raises UsageError."""
    usual = Recipe(model=recipe.model, data=recipe.data)
    same = ("augment", "distort", "fit", "folds", "freeze", "schedule", "seeds",
            "size", "teacher", "unfreeze")  # fmt: skip
    odd = [name for name in same if getattr(recipe, name) != getattr(usual, name)]
    odd = [name for name in odd if name != "schedule" or recipe.schedule == "head-then-all"]
    odd += ["task"] * (recipe.task not in (None, "classify")) + ["views"] * (
        recipe.views not in (None, 1)
    )
    if odd:
        name = "no-freeze" if odd[0] == "freeze" else odd[0].replace("_", "-")
        raise UsageError(
            f"--{name} with a job: its features are of one view of each photo, behind one stage",
            "leave it out, or fine-tune on the folder of the photos",
        )
    if settings.precision not in (None, "fp32"):
        raise UsageError(f"the features of {recipe.data} are {settings.precision}", "plan in fp32")
    checks.check_compiler(recipe)
    kinds(recipe.log)
    taken = recipe.weights or settings.weights
    return replace(recipe, task="classify", views=1, flip=True, weights=taken)


def _check(plan: Plan, settings: Settings, stored: bool) -> None:
    """Raise UsageError where the features are not those that the plan trains on."""
    recipe, cut = plan.recipe, plan.cut
    how = f"`zoo plan PHOTOS -o JOB --model {recipe.model} --what features`"
    mine = model_sha256(replace(settings, model=recipe.model, weights=recipe.weights))
    if mine != settings.model_sha256:
        raise UsageError(
            f"the features of {recipe.data} are of {settings.model}, "
            f"{settings.model_sha256[:12]}…, and {recipe.model} is here {mine[:12]}…",
            f"name the model and --weights of the job, or make one of this model: {how}",
        )
    if json.loads(json.dumps(plan.preprocess.to_dict())) != settings.preprocess:
        raise UsageError(f"the photos of {recipe.data} were seen in another way", how)
    if settings.stage != cut.boundary or settings.width * 4 != cut.feature_bytes:
        shape = " x ".join(map(str, cut.shape))
        flat = " --flat" * (len(cut.shape) > 1)
        raise UsageError(
            f"the features of {recipe.data} are {settings.width} numbers after {settings.stage}, "
            f"and what is trained takes {shape} after {cut.boundary}",
            f"{how[:-1]} --stage {cut.boundary}{flat}`; or train behind {settings.stage}, where "
            "the job has all of its output: --cut",
        )
    deeper = cut.kind == "deeper" and not plan.solved_only
    if not (plan.solved_only or deeper) or (stored and kind_of(recipe.head).computed):
        what = recipe.head if stored and plan.solved_only else f"--solver {plan.solver}"
        raise UsageError(
            f"{what} over a job: its head is solved for", "leave --head and --solver out"
        )


def _division(plan: Plan, listed: Listed, who: Together) -> Division | None:
    """Return which rows are whose in a team that trains in steps. Raises UsageError."""
    ranks, recipe = who.ranks, plan.recipe
    if plan.solved_only:
        return None
    if who.ray is not None:
        raise UsageError(
            f"--ray with --cut {recipe.cut}: it solves heads, and more than a head is trained",
            "`torchrun --nproc-per-node N --no-python zoo finetune MODEL JOB …`",
        )
    if ranks.single:
        return None
    division = Division(listed.parts_to_train_on(), ranks.rank, ranks.world)
    parts = int(division.part[-1]) + 1
    if parts < ranks.world:
        raise UsageError(
            f"{parts} parts of {recipe.data} have photos to train on, and there are "
            f"{ranks.world} processes, each with parts of its own",
            f"start {parts} at most, or plan with a smaller --per-shard",
        )
    if recipe.balance == "sampler":
        raise UsageError(
            f"--balance sampler by {ranks.world} processes over a job: each reads its own parts",
            "give --balance weights, or start one process",
        )
    many = division.fewest(steps(len(division.part), recipe.batch_size * recipe.accumulate))
    if plan.cut.norm and many < FEWEST:
        raise UsageError(
            f"BatchNorm over {many} photos: the share of a process in a batch of "
            f"{recipe.batch_size}",
            f"give --batch-size {FEWEST * recipe.batch_size} or more, or start fewer processes",
        )
    return division


def _told(plan: Plan, shards: Shards, stored: bool) -> Plan:
    """Return the plan with the job as the place of its features, which are kept in any case."""
    how = f"more than {size(IN_MEMORY)}: each step reads them anew" if stored else "in memory"
    part = needed(shards, 0, ["status"]).schema.metadata or {}
    ran = part.get(b"engine", b"").decode("utf-8", "replace").partition(" ")[0]
    rest = "nothing of it runs here" if plan.solved_only else "what is trained runs in torch"
    phases = tuple(replace(phase, kept=True, why=how) for phase in plan.phases)
    reasons = {
        "features": shards.store.place,
        "views": "a job has features of one view of each photo, as it is",
        "engine": f"computed the features of the job; {rest}",
        "ran": ran or plan.engine,
    }
    return replace(plan, phases=phases, reasons=plan.reasons | reasons)


def _wanted(listed: Listed, division: Division | None) -> Callable[[int], Collection[str]]:
    """Return what says which of train, val and test this process reads of a shard."""
    if division is None:
        return lambda shard: NAMES
    trained = np.array(listed.training) > 0
    own = trained & ((np.cumsum(trained) - 1) % division.world == division.rank)
    others = ("val", "test") * (division.rank == 0)
    return lambda shard: ("train",) * bool(own[shard]) + others


def _solved_by(
    who: Together,
    train: Stored,
    index: DatasetIndex,
    make: Callable[[int, int], AbstractContextManager[team.Share]],
    closing: ExitStack,
) -> Stored:
    """Return the rows to train on, with those who solve a head on them together."""
    if who.ray is not None:
        return replace(train, team=closing.enter_context(launch.together(who.ray, make)))
    if who.ranks.single:
        return train
    return team.divided(train, np.array(index.labels("train")), who.ranks, closing)


@contextmanager
def _share(job: str, recipe: Recipe, rank: int, world: int) -> Iterator[team.Share]:
    """Yield a share of the rows of a job, of which this process makes a copy."""
    shards = opened(job)
    listed = Listed.of(shards, recipe)
    index = listed.index(shards, _silent)
    with held() as place:
        train = copied(shards, listed, place, lambda shard: ("train",), _silent)["train"]
        yield team.Share(train, np.array(index.labels("train")), rank, world)


def _silent(done: int, total: int | None) -> None:
    pass


def _source(
    plan: Plan, found: dict[str, Array | Stored], division: Division | None
) -> FeatureBatches:
    """Return the batches; what a process does not read of them has no rows."""
    nothing = np.empty((0, plan.cut.feature_bytes // 4), np.float32)
    rows = {name: Copied(found.get(name, nothing), plan.cut.shape) for name in NAMES}
    labels = {name: np.array(plan.index.labels(name)) for name in NAMES}
    test = (rows["test"], labels["test"]) if len(labels["test"]) else None
    own = (rows["train"], labels["train"], rows["val"], labels["val"])
    source = FeatureBatches(*own, plan.device, test=test)
    source.division = division
    return source
