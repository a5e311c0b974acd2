"""The class names that published weights answer with.

`imagenet1k`: the 1000 classes of ILSVRC 2012 in the order of their WordNet ids, named as
torchvision names them. The names are unique, but some only just: `cardigan` is the garment and
`Cardigan` the dog, `crane` the machine and `crane bird` the bird, `maillot` the tights and
`maillot tank suit` the suit. Other lists call both of a pair by one word, so the WordNet id (wnid)
is what identifies a class beyond doubt.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from zoo.errors import UsageError, or_nearest

LISTS = ("imagenet1k",)


def names(list_name: str) -> tuple[str, ...]:
    """Return the names of a list in the order of a network's outputs. Raises UsageError."""
    return tuple(name for _, name in _read(list_name))


def wnids(list_name: str) -> tuple[str, ...]:
    """Return the WordNet ids of a list (`n01440764`), in the same order as `names`."""
    return tuple(wnid for wnid, _ in _read(list_name))


@cache
def _read(list_name: str) -> tuple[tuple[str, str], ...]:
    if list_name not in LISTS:
        raise UsageError(
            or_nearest(f"there is no list of class names '{list_name}'", list_name, LISTS),
            f"the lists are: {', '.join(LISTS)}",
        )
    text = resources.files("zoo.catalog").joinpath(f"{list_name}.csv").read_text(encoding="utf-8")
    return tuple((row["wnid"], row["name"]) for row in csv.DictReader(text.splitlines()))
