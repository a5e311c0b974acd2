"""A model's name without its library: which network is taken, said to the person."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.cli.console import talk

if TYPE_CHECKING:
    from zoo.recipe import Recipe


def full_name(name: str) -> str:
    """Return the name with its library, and say so; a path that is there stays what it is.

    MODEL=WEIGHTS keeps its weights.
    """
    from zoo import catalog

    full = catalog.full_choice(name)
    if full != name:
        bare, whole = name.partition("=")[0], full.partition("=")[0]
        others = [other for other in catalog.others_named(bare) if other != whole]
        also = f"; there is {', '.join(others)} as well" if others else ""
        talk(f"{bare}: taken as {whole}{also}")
    return full


def with_full_name(settings: Recipe) -> Recipe:
    """Return the settings with the model's whole name."""
    return replace(settings, model=full_name(settings.model))
