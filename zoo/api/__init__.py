"""The Python API: what the commands do, as functions that return records and print nothing.

`import zoo` has all of it. Errors are `zoo.ZooError`: `error.what` went wrong, `error.hint` says
what would be right. Whoever wants to see the work go on gives a function as `on_event`: it gets
records as `zoo.Progress`, `zoo.Line` of the plan, `zoo.Note` and `zoo.Epoch`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.api.model import Model
from zoo.api.rows import ModelInfo
from zoo.api.run import Run
from zoo.api.watching import Listener, OnEvent, working
from zoo.errors import NoClasses, UsageError
from zoo.text import count
from zoo.watch import in_team

if TYPE_CHECKING:
    from zoo.finetune.rank import Ranked
    from zoo.predict.evaluate import Measured
    from zoo.recipe import Recipe

    Name = str | os.PathLike[str]

_LIMITS = ("models", "max_size", "max_latency", "licence")  # of the networks that auto tries


def list_models(
    pattern: str | None = None, *, sort: str | None = None, **conditions: Any
) -> list[ModelInfo]:
    """Return the networks that there are: the catalogue's own, torchvision's and timm's.

    pattern: a part of a name or a glob. sort: by params, macs, memory, acc1, acc5, size or year.
    conditions: family, task, max_params, max_macs, max_memory, min_acc1, licence (`permissive`, or
    the start of a name), trained (with published weights). Raises ZooError for another name.

    >>> small = zoo.list_models("timm/mobilenetv4*", max_params=5e6, sort="params")
    >>> small[0].name
    'timm/mobilenetv4_conv_small_050.e3000_r224_in1k'
    """
    from zoo import catalog

    rows = catalog.everything()
    if library := catalog.library_of(pattern):
        rows = [row for row in catalog.libraries.read() if row.name.startswith(f"{library}/")]
    known = catalog.Wanted.__dataclass_fields__.keys() - {"pattern"}
    for name in conditions.keys() - known:
        raise UsageError(f"{name} is no condition", f"give some of {', '.join(sorted(known))}")
    found = catalog.search(rows, sort, pattern=pattern, **conditions)
    return [ModelInfo.of(row) for row in found]


def load(
    name: Name,
    *,
    weights: Name | None = None,
    device: str = "auto",
    precision: str | None = None,
    engine: str = "auto",
    views: int = 1,
    trust_changed: bool = False,
    force: bool = False,
    on_event: OnEvent | None = None,
) -> Model:
    """Return a model that is ready to answer: of a run folder, an .onnx file or a model's name.

    weights: of a model's name: a tag, a file, `hf-hub:ORG/NAME` or `none`. device: auto, cpu, cuda,
    mps. precision: fp32, bf16 or int8, measured beside fp32; else the run's own. engine: auto,
    torch or openvino. views: of each picture, whose mean is the answer. trust_changed: a run's
    network that was changed after training is used all the same. force: go on where a lower
    precision disagrees. on_event: see `zoo.finetune`. Raises ZooError.

    >>> model = zoo.load("lenet/mnist")
    >>> model.classes[:3]
    ('0', '1', '2')
    """
    from zoo.catalog import is_run
    from zoo.predict.predictor import Opening, of_folder

    if not 1 <= views <= 100:
        raise UsageError(f"views={views}: no number of views", "give 1 to 100")
    said = None if weights is None else os.fspath(weights)
    how = Opening(said, device, precision, engine, trusts=trust_changed, views=views)
    place, how = of_folder(_full(name), how)
    a_run = is_run(place)
    model = (
        _run_of(Path(place), how, on_event, force) if a_run else Model(place, how, on_event, force)
    )
    if a_run or precision in (None, "fp32"):  # others are measured on the first pictures
        with suppress(NoClasses):  # it embeds
            model.predictor()  # what is missing is told here and now
    return model


def finetune(
    model: Name,
    data: Name,
    *,
    output: Name | None = None,
    recipe: Name | None = None,
    on_event: OnEvent | None = None,
    **settings: object,
) -> Run:
    """Retrain a network's head on photos, and return the finished run.

    model: a name of `zoo.list_models()`, or `auto`: several are tried on the training photos, and
    the best is taken; `models`, `max_size`, `max_latency` and `licence` say which, as the flags of
    `zoo finetune auto` do. data: a folder of photos, CLASS/*.jpg or
    {train,val}/CLASS/*.jpg, or whatever else `zoo finetune` takes. output: the run folder, else
    runs/MODEL-PHOTOS. recipe: a TOML file of settings, or the name of one of zoo's. settings: those
    of `zoo finetune --help` with _ for -, as cut="layer3", epochs=5, val_fraction=0.3.

    on_event: is called with what happens: a `zoo.Line` for each choice with its reason, `zoo.Note`,
    `zoo.FeaturesDone`, `zoo.Epoch`, `zoo.Finished`, and `zoo.Progress` at most ten times a second.
    What it raises ends the work, as Ctrl-C does; `zoo.resume` goes on. Raises ZooError.

    >>> run = zoo.finetune("lenet/mnist", "photos", output="runs/again", val_fraction=0.4)
    >>> run.accuracy > 0.5
    True
    """
    from zoo import recipe as recipes
    from zoo.finetune import begin, job
    from zoo.finetune.describe import lines
    from zoo.finetune.place import place_of
    from zoo.finetune.prepare import prepare

    _refuse_teams()
    named: dict[str, object] = {"model": _full(model), "data": _path(data, "data")}
    limits: dict[str, Any] = {name: settings.pop(name) for name in _LIMITS if name in settings}
    for name, value in settings.items():  # weights, teacher: a path is text in a recipe
        named[name] = os.fspath(value) if isinstance(value, os.PathLike) else value
    chosen = recipes.make(named, None if recipe is None else Path(recipe))
    listener, about = Listener(on_event), dict[str, object]()
    if limits and chosen.model != "auto":
        raise UsageError(
            f"{', '.join(limits)} would do nothing: the network is named",
            'they are for zoo.finetune("auto", photos)',
        )
    if chosen.model == "auto":
        if output is not None:
            place_of(chosen.model, chosen.data, Path(output))  # it is refused before anything
        chosen, about["choice"] = _chosen(chosen, dict(limits), listener)
    folder, _ = place_of(chosen.model, chosen.data, None if output is None else Path(output))
    with working(), prepare(chosen, listener.bytes, begin=True) as prepared:
        prepared.about |= about
        for line in lines(prepared.plan):
            listener.tell(line)
        job.run(begin.start(prepared, folder, listener))
    return _run_of(folder, None, on_event)


def _chosen(
    recipe: Recipe, limits: dict[str, Any], listener: Listener
) -> tuple[Recipe, dict[str, object]]:
    """Return the recipe with the network that suits its photos, and the record of the choice."""
    from zoo.finetune import auto, backbones
    from zoo.finetune.events import Note
    from zoo.finetune.limits import Limits

    models = limits.pop("models", None)
    if models is not None:
        models = ",".join(map(_full, [models] if isinstance(models, str) else models))
    said = {name: str(limits[name]) if name in limits else None for name in _LIMITS[1:]}
    keeping = Limits.of(**said, minutes=recipe.minutes)
    backbones.check_names(models)
    with working():
        ranking = auto.ranking_of(recipe, listener)
        names, _ = auto.candidates(models, keeping, ranking.index)
        choice = auto.choose(ranking, names, keeping)
    listener.tell(Note(f"chosen: {choice.chosen.partition('=')[0]}, {choice.why}"))
    model, weights = backbones.meant(choice.chosen)
    return replace(recipe, model=model, weights=weights, minutes=None), choice.record()


def resume(folder: Name, *, on_event: OnEvent | None = None) -> Run:
    """Finish a run that was interrupted, with the settings that it has, and return it.

    A run that is finished is returned as it is. Raises ZooError where photos or weights have
    changed since it began.

    >>> zoo.resume("runs/again").folder.name
    'again'
    """
    from zoo.finetune import begin, job
    from zoo.finetune.prepare import prepare
    from zoo.run import Run as Folder

    _refuse_teams()
    run, listener = Folder.open(Path(_path(folder, "folder"))), Listener(on_event)
    if run.record["status"] == "started":
        with working(), run.held():
            recipe = begin.recipe_of(run)
            with prepare(recipe, listener.bytes, begin=True) as prepared:
                job.run(begin.resume(prepared, run, listener))
    return _run_of(Path(folder), None, on_event)


def rank(
    data: Name,
    models: str | Sequence[str] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
    views: int = 1,
    on_event: OnEvent | None = None,
) -> list[Ranked]:
    """Compare networks on photos by cross-validation, before anything is trained; the best first.

    models: names, `MODEL=WEIGHTS`, run folders, or `all`; else those whose weights are on this
    machine. A network that cannot be tried has its reason in `error`. on_event: also gets each row
    as it is done; see `zoo.finetune`. Raises ZooError for photos that cannot be ranked on.

    >>> best, *others = zoo.rank("photos", ["lenet=none", "lenet/mnist"], folds=3)
    >>> best.accuracy > others[0].accuracy
    True
    """
    from zoo.finetune import backbones, rank
    from zoo.finetune.events import Note

    if folds < 2 or views < 1:
        raise UsageError(
            f"folds={folds}, views={views}", "give 2 folds or more, and 1 view or more"
        )
    asked = None if models is None else [models] if isinstance(models, str) else list(models)
    names = None if asked is None else ",".join(map(_full, asked))
    backbones.check_names(names)
    listener, rows = Listener(on_event), list[Any]()
    with working():
        ranking = rank.prepare(
            _path(data, "data"), folds=folds, seed=seed, views=views, watch=listener
        )
        for row in ranking.rows(backbones.chosen(names, ranking.index)):
            listener.tell(row)
            rows.append(row)
    for photo, why in ranking.bad.items():
        listener.tell(Note(f"{photo} left out: {why}"))
    return rank.in_order(rows)


def evaluate(
    models: Name | Model | Iterable[Name | Model],
    data: Name | None = None,
    part: str | None = None,
    *,
    device: str = "auto",
    views: int = 1,
    on_event: OnEvent | None = None,
) -> list[Measured]:
    """Return how often networks are right on labelled photos: a row for each, and for all together.

    models: runs, .onnx files, names or what `zoo.load` returned; one or several. data: photos as
    for `zoo.finetune`, else those of the first run. part: val, test, train or all. Photos that one
    of the runs was trained on are left out, unless part is `train`. Raises ZooError.

    >>> (row,) = zoo.evaluate(run)
    >>> row.accuracy == run.accuracy
    True
    """
    from zoo.finetune.events import Note
    from zoo.predict import evaluate, evaluation_set

    several = (
        list(models) if isinstance(models, Iterable) and not isinstance(models, str) else [models]
    )
    if not several:
        raise UsageError("no model to evaluate", "give a run, or a list of runs")
    if part not in (None, "val", "test", "train", "all"):
        raise UsageError(f"part={part!r}: there is no such part", "give val, test, train or all")
    listener = Listener(on_event)
    with working():
        loaded = [
            one
            if isinstance(one, Model)
            else load(one, device=device, views=views, on_event=on_event)
            for one in several
        ]
        names = [one.name for one in loaded]
        where = None if data is None else _path(data, "data")
        chosen = evaluation_set.chosen(names, where, part)
        photos = chosen.photos
        if left := len(chosen.requested.photos) - len(photos):
            by = ", ".join(chosen.trained.by)
            listener.tell(Note(f"{count(left, 'photo')} left out, since {by} trained on them"))
        members = [one.predictor() for one in loaded]
        found = evaluate.measured(members, photos, partial(listener.progress, "pictures"))
    for photo, why in found.errors:
        listener.tell(Note(f"{photo} left out: {why}"))
    return evaluate.rows(names, found)


def _full(name: Name) -> str:
    from zoo import catalog

    return catalog.full_choice(_path(name, "model"))


def _path(given: object, what: str) -> str:
    """Return a name or a path as text. Raises UsageError for what is neither."""
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    hint = "a name, or a path as str or pathlib.Path"
    if hasattr(given, "folder"):
        hint = "a run that is open already: `run.folder` is its path"
    elif hasattr(given, "columns"):
        hint = "write the table down, with the columns path and label, and give the file"
    raise UsageError(f"{what} is of type {type(given).__name__}", f"expected {hint}")


def _run_of(folder: Path, how: Any, on_event: OnEvent | None, force: bool = False) -> Run:
    """Return the finished run of a folder. Raises RunError for another one."""
    from zoo.predict.predictor import AS_IT_IS
    from zoo.run import Run as Folder

    how = how or AS_IT_IS
    run = Folder.open(folder, trusts=how.trusts).finished()
    if how.weights:
        raise UsageError(f"{folder} is a run, with weights of its own", "leave weights out")
    return Run(run, how, on_event, force)


def _refuse_teams() -> None:
    """Raises UsageError in a process of torchrun's."""
    if in_team():
        raise UsageError(
            "training from Python under torchrun, where several processes are to be one",
            "`torchrun … -m zoo finetune` does it",
        )
