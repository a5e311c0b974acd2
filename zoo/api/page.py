"""The page of a run: what it has beside the record, which several verbs know."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo import __version__
from zoo.errors import ImageError, WeightsError, ZooError
from zoo.settings import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.finetune.inputs import Inputs
    from zoo.finetune.kept_features import KeptFeatures
    from zoo.metrics import Array, Report
    from zoo.report.feature_map import Mapped
    from zoo.report.run_page import Extras, Looks, Pair
    from zoo.run import Run
    from zoo.watch import Watch

SOME = 200  # photos that a map is made of where no features are kept
REBUILT, PAIRS = 200, 8  # pictures that an autoencoder gives back, and the worst of them shown
ON_PAGE = 4  # things to try next
HANDY = 200_000_000  # bytes of features from which on a map is left to `zoo report`


def written(place: Path, run: Run, trusts: bool, watch: Watch) -> None:
    """Write the page of a run with all that it may have; what cannot be had is said in it."""
    from zoo.report.run_page import write

    extras, missing = plain(run), list[str]()
    if run.record.get("task") == "reconstruct":
        write(place, run, replace(extras, rebuilt=_rebuilt_by(run, trusts, watch)))
        return
    try:
        extras = replace(extras, mapped=_features_of_run(run, watch))
    except ZooError as error:
        missing.append(f"There is no map of features: {error.what}.")
    try:
        looks, why = _looks_of(run, watch)
        extras = replace(extras, looks=looks, looks_why=why)
    except ZooError as error:
        missing.append(f"Where the network looks is not drawn: {error.what}.")
    write(place, run, replace(extras, missing=missing))


def plain(run: Run) -> Extras:
    """Return what comes from the run's own files."""
    from zoo.report.answers import measured
    from zoo.report.run_page import Extras

    recipe = run.path("recipe.toml").read_text(encoding="utf-8", errors="replace")
    said = shlex.quote(str(run.folder))
    steps = next_steps(run, measured(run), ON_PAGE)
    return Extras(__version__, command=_command_of(run), recipe=recipe, said=said, steps=steps)


def next_steps(run: Run, report: Report | None, most: int = 2) -> list[str]:
    """Return what to try next for what a run gets right, so much at most; else what it is for."""
    from zoo import recipe
    from zoo.finetune import backbones
    from zoo.report.next_steps import Result, steps, use

    if report is None:
        return [use(run)]

    def others() -> int:
        try:
            here = backbones.here()
        except WeightsError:  # a cache that cannot be read costs a hint, not an answer
            return 0
        known = backbones.coloured(here) if run.record["preprocess"]["channels"] > 1 else here
        return len({*known} - {run.record["model"]})

    return steps(Result.of(run, report, recipe.load(run.path("recipe.toml")), others), most)


def _command_of(run: Run) -> str:
    """Return the command that makes the same run anew, from the settings that it kept."""
    from zoo import recipe as recipes

    chosen = recipes.load(run.path("recipe.toml"))
    verb = run.resume.split()[1]
    if chosen.get("teacher"):
        words = ["finetune", "--recipe", str(run.path("recipe.toml"))]
        return _shell(words)
    own = (
        {"freeze": False, "weights": "none", "task": chosen.get("task")} if verb == "train" else {}
    )
    words = [verb, str(chosen.pop("model")), str(chosen.pop("data"))]
    for name, value in chosen.items():
        one = table()[name]
        if value != one.default and own.get(name, one.default) != value and verb in one.commands:
            words += one.words(value)
    return _shell(words)


def _shell(words: list[str]) -> str:
    return f"zoo {' '.join(map(shlex.quote, words))} -o NEW-FOLDER"


def features_of_job(inputs: Inputs) -> Mapped | None:
    """Return features that a fine-tune has just computed; None where that is not at hand."""
    from zoo.finetune.kept_features import KeptFeatures

    plan = inputs.plan
    one, opened = len(plan.phases) == 1 and plan.phases[0].kept, inputs.opened
    if not one or opened is None or plan.feature_bytes > HANDY:
        return None
    ref, cache = inputs.prepared.ref(plan.cut), inputs.cache(plan.cut, opened)
    return _mapped(KeptFeatures(inputs.run, ref, opened, cache, inputs.watch))


def _features_of_run(run: Run, watch: Watch) -> Mapped | None:
    """Return features of val photos: those that are kept, else of SOME computed anew.

    A network that was trained in steps has kept none: its own take torch. None of no photo.
    """
    from zoo.finetune.kept_features import KeptFeatures

    if run.record.get("linear_head"):
        return _mapped(KeptFeatures.of(run, watch))
    return _embedded(run, watch)


def _embedded(run: Run, watch: Watch) -> Mapped | None:
    """Return what the head of a run's network sees of some val photos."""
    import numpy as np

    from zoo.data.samples import evenly
    from zoo.predict.embed import Wanted, open_embedder
    from zoo.predict.inputs import Input
    from zoo.predict.predictor import Opening
    from zoo.report.feature_map import Mapped

    ours = open_embedder(str(run.folder), Wanted(), Opening(trusts=run.trusts))
    root = run.record["data"]["root"]
    paths = evenly([row["path"] for row in run.index() if row["split"] == "val"], SOME)
    found = []
    for done, row in enumerate(ours.rows(Input(os.path.join(root, p), p) for p in paths), 1):
        watch.progress("features", done, len(paths))
        if row.features is not None:
            found.append((row.path, row.features))
    if not found:
        return None
    rows = np.stack([features for _, features in found])
    return Mapped([path for path, _ in found], rows, f"what leaves {ours.stage}")


def _mapped(kept: KeptFeatures) -> Mapped | None:
    from zoo.report.feature_map import POINTS, Mapped

    paths, rows = kept.of_some("val", POINTS)
    about = f"what leaves {kept.ref.boundary}" if kept.ref.boundary else "features"
    return Mapped(paths, rows, about) if paths else None


def _looks_of(run: Run, watch: Watch) -> tuple[Looks, str]:
    """Return what tells where a run's network looks, and how, in a sentence. Takes torch.

    Raises UnknownStage, UsageError for a network of which that cannot be said.
    """
    from functools import partial

    from zoo.data.views import plain_view
    from zoo.engine.pipeline import attempt
    from zoo.explain import places, saliency
    from zoo.network import of_run

    net = of_run(run)
    see = partial(plain_view, preprocess=net.preprocess)
    saliency.must_have_classes(net)
    tapped = places.tap(net)
    number = {name: k for k, name in enumerate(run.record["classes"])}

    def looks(asked: Sequence[tuple[Path, str]]) -> list[tuple[Array, Array] | None]:
        import numpy as np

        found: list[tuple[Array, Array] | None] = [None] * len(asked)
        for begin in range(0, len(asked), saliency.BATCH):
            watch.progress("Grad-CAM", begin, len(asked))
            some = range(begin, min(begin + saliency.BATCH, len(asked)))
            read = {k: attempt(see, asked[k][0]) for k in some}
            views = {k: view for k, view in read.items() if not isinstance(view, ImageError)}
            if views:
                classes = [number[asked[k][1]] for k in views]
                maps = saliency.gradcam(net, tapped, np.stack(list(views.values())), classes)
                for k, heat in zip(views, maps.maps, strict=True):
                    found[k] = (views[k], heat)
        return found

    how = "Beside each, the view that the network has: in colour what speaks for its answer "
    return looks, f"{how}(Grad-CAM at {tapped.stage})."


def _rebuilt_by(run: Run, trusts: bool, watch: Watch) -> tuple[list[Pair], list[Pair]]:
    """Return val pictures that an autoencoder gives back worst, and best."""
    from zoo.data.samples import evenly
    from zoo.predict.inputs import Input
    from zoo.predict.reconstruct import open_reconstructor
    from zoo.report.run_page import Pair

    found = []
    photos = [Input(str(path), str(path)) for path in evenly(run.photos("val"), REBUILT)]
    ours = open_reconstructor(str(run.folder), trusts=trusts)
    for done, row in enumerate(ours.rows(photos), 1):
        watch.progress("pictures", done, len(photos))
        if row.before is not None and row.after is not None:
            found.append(Pair(row.path, row.before, row.after, row.mse))
    found.sort(key=lambda pair: -pair.mse)
    return found[:PAIRS], found[PAIRS:][::-1][:PAIRS]
