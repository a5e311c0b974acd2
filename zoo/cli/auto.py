"""The network that `zoo finetune auto` takes: what is asked for, what is tried, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from zoo import catalog
from zoo.cli.console import Screen, talk, talk_table
from zoo.cli.options import flag
from zoo.errors import UnknownModel, UsageError, nearest
from zoo.text import count, percent, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.data.index import DatasetIndex
    from zoo.finetune.auto import Choice
    from zoo.finetune.limits import Limits
    from zoo.finetune.rank import Ranking
    from zoo.recipe import Recipe
    from zoo.train.distributed import Ranks

NAME = "auto"
_SECTION = "Choosing the network (MODEL is auto)"


@dataclass(frozen=True)
class Flags:
    models: str | None = flag(
        "Networks to try, as in resnet50,vgg16=WEIGHTS,RUN. Default: those whose weights are on "
        "this machine, and with a network three more, which are pulled.",
        _SECTION,
    )
    max_size: str | None = flag("Most bytes of its file, as 20MB. Default: any.", _SECTION)
    max_latency: str | None = flag(
        "Longest time of one photo on this machine, as 10ms. Default: any.", _SECTION
    )
    licence: str | None = flag(
        "Licence of its weights: permissive, or the start of a name, as apache. Default: any.",
        _SECTION,
    )


NOTHING = Flags()


def refuse(model: str, wanted: Flags) -> None:
    """Raises UsageError for flags of auto where the network is named, UnknownModel for a slip."""
    near = nearest(model.lower(), [NAME], least=0.7)
    if near and model not in catalog.ROWS and not os.path.exists(model):
        raise UnknownModel(
            f"there is no model called '{model}'; {near}",
            f"`zoo finetune {NAME} PHOTOS` chooses a network; `zoo list` has them",
        )
    for one in fields(Flags):
        if value := getattr(wanted, one.name):
            name = one.name.replace("_", "-")
            raise UsageError(
                f"--{name} {value} would do nothing: the network is named",
                f"`zoo finetune {NAME} PHOTOS --{name} {value}` chooses one",
            )


def pick(
    settings: Recipe, wanted: Flags, dry_run: bool, screen: Screen, ranks: Ranks
) -> tuple[Recipe, dict[str, object]] | None:
    """Return the recipe with the network that was chosen, and the record of the choice.

    None of a dry run, which says what would be tried. Raises UsageError, WeightsError.
    """
    if not ranks.single:
        raise UsageError(
            "the model auto under torchrun: networks are not tried in several processes",
            "choose with `zoo rank PHOTOS`, and name the network",
        )
    from zoo.finetune import auto
    from zoo.finetune.backbones import check_names, meant
    from zoo.finetune.limits import Limits

    words = (wanted.max_size, wanted.max_latency, wanted.licence)
    limits = Limits.of(*words, settings.minutes)
    check_names(wanted.models)

    ranking = auto.ranking_of(settings, screen)
    models = _models(wanted, limits, ranking.index)
    if dry_run:
        talk(f"{count(len(models), 'network')} would be tried: {', '.join(models)}")
        talk("dry run: nothing was computed, nothing was written")
        return None
    choice = _chosen(ranking, models, limits, screen)
    _show(choice)
    model, weights = meant(choice.chosen)
    return replace(settings, model=model, weights=weights, minutes=None), choice.record()


def _chosen(ranking: Ranking, models: Sequence[str], limits: Limits, screen: Screen) -> Choice:
    """Try the networks, and say each as it is there."""
    from zoo.finetune import auto
    from zoo.finetune.rank import Ranked

    def show(row: object) -> None:
        if isinstance(row, Ranked):
            said = row.error or row.beyond or auto.in_words(row)
            talk(f"tried      {auto.name_of(row)}: {said}, in {row.seconds:.1f} s")

    talk(f"auto       {count(len(models), 'network')} to try on the training photos")
    screen.show = show
    return auto.choose(ranking, models, limits)


def _models(wanted: Flags, limits: Limits, index: DatasetIndex) -> list[str]:
    """Return what is to be tried; say what of it is pulled first. Raises WeightsError."""
    from zoo.finetune import auto

    models, pulled = auto.candidates(wanted.models, limits, index)
    if pulled:
        said = ", ".join(f"{one.model} ({size(one.bytes)})" for one in pulled)
        whole = size(sum(one.bytes for one in pulled))
        talk(
            f"pulled     {said}: {whole} at most; `zoo --offline finetune auto` tries "
            "what is here alone"
        )
    return models


def _show(choice: Choice) -> None:
    """Print the table of what was tried, and what is taken."""
    from zoo.finetune import auto
    from zoo.finetune.limits import bytes_of

    rows = [
        (
            auto.name_of(row),
            row.weights,
            percent(row.accuracy) if row.accuracy is not None else "",
            f"± {100 * (row.interval or 0):.1f}" if row.accuracy is not None else "",
            str(row.photos or ""),
            size(bytes_of(row)) if row.parameters else "",
            f"{row.latency:.1f}" if row.latency else "",
            row.licence or "not stated",
            choice.verdicts[row.model],
        )
        for row in choice.rows
    ]
    header = (
        "network",
        "weights",
        "accuracy",
        "95 %",
        "photos",
        "size",
        "ms",
        "licence",
        "verdict",
    )
    talk_table(rows, header, right="  rrrrr")
    took = f"choosing took {choice.seconds:.1f} s"
    talk(f"chosen     {choice.chosen.partition('=')[0]}: {choice.why}; {took}")
