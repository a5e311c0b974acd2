"""The network for these photos: several are tried, within limits, the cheapest first.

Each is judged as `zoo rank` does it, by cross-validated heads on the training part. Where there
are many photos, a few of them are tried first, and a network whose interval lies below that of the
best is out. Of those that are less accurate than the best by no more than the standard error of the
difference, the one of fewest multiply-adds is taken (after the rule of Breiman et al. 1984,
"Classification and Regression Trees", section 3.4.3). These are counted, not timed: so the choice
is the same on every machine, unless minutes or milliseconds are limited.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from zoo import datasets, device
from zoo.data.index import DatasetIndex
from zoo.data.views import generator
from zoo.errors import UsageError, WeightsError
from zoo.finetune import backbones
from zoo.finetune.asked import index_of
from zoo.finetune.backbones import Remote, cost
from zoo.finetune.choices import mirrored
from zoo.finetune.limits import Limits, bytes_of
from zoo.finetune.rank import Ranked, Ranking, must_be_tested
from zoo.recipe import Recipe
from zoo.text import percent
from zoo.watch import Watch

FOLDS = 5
_FIRST = 150  # photos of the first round, which is held where there are more than twice as many
_SHARES = ("model", "weights", "accuracy", "interval", "photos", "latency", "macs", "licence")
Rows = dict[str, Ranked]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was tried, with a verdict on each in words, and what is taken of it, and why."""

    rows: tuple[Ranked, ...]
    verdicts: Mapping[str, str]
    chosen: str
    why: str
    limits: Limits
    seconds: float

    def record(self) -> dict[str, object]:
        """Return what run.json says of it."""
        about = [
            {name: value for name, value in asdict(row).items() if name in _SHARES}
            | {"bytes": bytes_of(row) or None, "verdict": self.verdicts[row.model]}
            for row in self.rows
        ]
        return {
            "chosen": self.chosen,
            "why": self.why,
            "candidates": about,
            "limits": {name: value for name, value in asdict(self.limits).items() if value},
            "seconds": self.seconds,
        }


def name_of(row: Ranked) -> str:
    """Return the name of a network without its weights."""
    return row.model.partition("=")[0]


class TimeIsUp(Exception):
    """The minutes are over."""


class _Clock:
    """A Watch that ends the work when its time is over."""

    def __init__(self, watch: Watch, minutes: float | None) -> None:
        self.watch = watch
        self.end = time.monotonic() + 60 * minutes if minutes is not None else math.inf

    def tell(self, event: object) -> None:
        self.watch.tell(event)

    def progress(self, what: str, done: int, total: int | None) -> None:
        self.watch.progress(what, done, total)
        if time.monotonic() > self.end:
            raise TimeIsUp

    @property
    def signal(self) -> int:
        return self.watch.signal


def ranking_of(recipe: Recipe, watch: Watch) -> Ranking:
    """Return the contest on the photos that a fine-tune of this recipe trains on.

    Raises DataError, and UsageError for settings that are of one network.
    """
    for name in ("weights", "cut", "unfreeze", "variant"):
        if getattr(recipe, name):
            raise UsageError(
                f"--{name} with the model auto: it is of one network, and auto tries several",
                "weights of your own: --models NAME=FILE; else name the model",
            )
    if recipe.task not in (None, "classify"):
        raise UsageError(
            f"--task {recipe.task} with the model auto: networks are compared by one class a photo",
            "name the model: `zoo list` has them",
        )
    index = index_of(recipe, datasets.locate(recipe.data))
    must_be_tested(index, recipe.data)
    place = device.choose(recipe.device, recipe.precision)
    flip = mirrored(index) if recipe.flip is None else recipe.flip
    return Ranking(index, FOLDS, recipe.seed, 1, watch, {}, flip, recipe.fit, place, timed=True)


def candidates(
    models: str | None, limits: Limits, index: DatasetIndex
) -> tuple[list[str], list[Remote]]:
    """Return the networks to try, and those of them whose weights are pulled for it.

    models: names with commas, or `all`; None for those that are here, and three more. Raises
    UsageError where none keeps the limits, WeightsError where there is none at all.
    """
    if models == "all":
        return [row.name for row in backbones.pretrained()], []
    if models is not None:
        return backbones.listed(models), []
    here = backbones.fitting(backbones.here(), index)
    remote = backbones.to_pull(here)
    rows = [Ranked(one.model, parameters=one.bytes // 4, licence=one.licence) for one in remote]
    more = [one for one, row in zip(remote, rows, strict=True) if not limits.beyond(row)]
    if not here and not more:
        nearest = min(rows, key=limits.excess)
        raise UsageError(
            f"no network keeps the limits; the nearest is {nearest.model}: "
            f"{limits.beyond(nearest)}",
            "give a wider limit, or others with --models",
        )
    return [*here, *(one.model for one in more)], more


def choose(ranking: Ranking, models: Sequence[str], limits: Limits) -> Choice:
    """Try the models and choose one. Tells its Watch each row.

    Raises UsageError where none keeps the limits or the minutes are too few, WeightsError where
    none can be tried.
    """
    began = time.monotonic()
    ranking.beyond = limits.beyond
    ranking.watch = clock = _Clock(ranking.watch, limits.minutes)
    models = sorted(models, key=cost)
    first = _first(ranking, models, clock)
    out = _dropped(first)
    left = [name for name in first or models if name not in out]
    left = [name for name in left if not first or _counts(first[name])]
    final = _round(ranking, left, clock) if len(left) > 1 or not first else {}
    if first and len(final) < len(left):  # all were tried on the same photos only there
        final = {name: first[name] for name in left}
    able = [row for row in final.values() if _counts(row)]
    found = first | final
    if not able:
        raise _none(models, found, limits)
    taken, why = _best(able)
    rows = tuple(found.get(name, Ranked(name)) for name in models)
    verdicts = {row.model: out.get(row.model) or _verdict(row, taken) for row in rows}
    return Choice(rows, verdicts, taken.model, why, limits, time.monotonic() - began)


def _first(ranking: Ranking, models: Sequence[str], clock: _Clock) -> Rows:
    """Return the rows of the round on a few photos; none where there is no need of one."""
    whole = ranking.index
    few = _few(whole, ranking.seed)
    if few is None or len(models) < 2:
        return {}
    ranking.index = few
    found = _round(ranking, models, clock)
    ranking.index = whole.without(ranking.bad)
    return found


def _counts(row: Ranked) -> bool:
    """Return whether a row was measured, and on photos that the network has not been taught."""
    return row.accuracy is not None and not row.note


def _round(ranking: Ranking, models: Sequence[str], clock: _Clock) -> Rows:
    """Return the rows of those that there was time for."""
    found: Rows = {}
    try:
        for model in models:
            clock.progress(model, 0, None)
            (found[model],) = ranking.rows([model])
            clock.tell(found[model])
    except TimeIsUp:
        pass
    return found


def _few(index: DatasetIndex, seed: int) -> DatasetIndex | None:
    """Return the index with a few training photos of each class; None where there are not many."""
    photos = index.of("train")
    if len(photos) <= 2 * _FIRST:
        return None
    each = max(FOLDS, math.ceil(_FIRST / len(index.classes)))
    order = generator("auto", seed).permutation(len(photos))
    taken: dict[int, list[str]] = {}
    for place in order.tolist():
        taken.setdefault(photos[place].label, []).append(photos[place].path)
    kept = {path for paths in taken.values() for path in paths[:each]}
    return replace(index, samples=tuple(photo for photo in photos if photo.path in kept))


def _dropped(rows: Rows) -> dict[str, str]:
    """Return a verdict on each network whose interval lies below that of the best."""
    able = [row for row in rows.values() if _counts(row)]
    best = max(able, key=lambda row: row.accuracy or 0.0, default=None)
    if best is None:
        return {}
    least = (best.accuracy or 0) - (best.interval or 0)
    said = f"dropped after {best.photos} photos: its interval lies below that of {name_of(best)}"
    return {row.model: said for row in able if (row.accuracy or 0) + (row.interval or 0) < least}


def _best(rows: Sequence[Ranked]) -> tuple[Ranked, str]:
    """Return the cheapest row that is as good as the most accurate, and why."""
    best = max(rows, key=lambda row: (row.accuracy or 0, -row.macs))
    near = [row for row in rows if _less(row, best) <= _error(row, best)]
    taken = min(near, key=lambda row: (row.macs, row.parameters))
    if len(rows) == 1:
        return taken, "the only one left"
    if taken is best:
        return taken, "the most accurate; none within one standard error has fewer MACs"
    return taken, (
        f"{100 * _less(taken, best):.1f} points below {name_of(best)}, within one standard error "
        f"({100 * _error(taken, best):.1f}), for {taken.macs / best.macs:.0%} of its MACs"
    )


def _less(row: Ranked, best: Ranked) -> float:
    return (best.accuracy or 0) - (row.accuracy or 0)


def _error(row: Ranked, best: Ranked) -> float:
    """Return the standard error of the difference between two accuracies."""
    return math.hypot(row.standard_error, best.standard_error)


def _verdict(row: Ranked, taken: Ranked) -> str:
    if row.model == taken.model:
        return "chosen"
    if row.error or row.beyond or row.note:
        return row.error or row.beyond or row.note
    if row.accuracy is None:
        return "no time was left for it"
    points = 100 * (row.accuracy - (taken.accuracy or 0))
    more = f"{row.macs / max(1, taken.macs):.2g} times the MACs"
    return f"{points:+.1f} points, {more}"


def _none(models: Sequence[str], rows: Rows, limits: Limits) -> UsageError | WeightsError:
    """Return the error where there is nothing to choose from."""
    over = [row for row in rows.values() if row.beyond]
    if over:
        nearest = min(over, key=limits.excess)
        ways = "give a wider limit, or others with --models"
        return UsageError(
            f"none of {len(models)} networks keeps the limits; the nearest is {name_of(nearest)}: "
            f"{nearest.beyond}",
            ways,
        )
    if len(rows) < len(models):
        return UsageError(
            f"--minutes {limits.minutes:g} were over before a network was tried",
            "give more: what was computed is kept, and the next time goes on from it",
        )
    name, row = next(iter(rows.items()))
    return WeightsError(
        f"none of {len(models)} networks could be tried; {name}: {row.error or row.note}",
        "`zoo pull MODEL` where there is a network, or --models NAME=FILE for weights of yours",
    )


def in_words(row: Ranked) -> str:
    """Return what was measured of a network."""
    if row.accuracy is None:
        return "-"
    return f"{percent(row.accuracy)} ± {100 * (row.interval or 0):.1f} on {row.photos} photos"
