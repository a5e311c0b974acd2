"""Which tensors of a file are the network's: trainers put keys and prefixes before their names.

`module.` is of DataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning, `model_ema` of
timm; a key of a dict that the state dict lies in is a prefix too. None of these words is believed:
a prefix counts where behind it the file has every tensor of the network, in its shape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.weights.tensors import shown

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

SEVERAL = 16  # prefixes that are tried
AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?|shadow|teacher)(?=[._])", re.IGNORECASE)
COUNTER = "n_averaged"  # of torch's AveragedModel; at 0 its weights are those of the start


@dataclass(frozen=True, slots=True)
class Choice:
    """A prefix, whether all fits behind it, and the words for what was taken.

    rivals: other prefixes that fit as well, where nothing says which is meant.
    """

    prefix: str
    fits: bool
    note: str = ""
    rivals: tuple[str, ...] = ()


def behind(found: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """Return the tensors whose names begin so, called by the rest of their names."""
    return {n.removeprefix(prefix): t for n, t in found.items() if n.startswith(prefix)}


def prefixes(names: Collection[str], known: Collection[str]) -> list[str]:
    """Return what stands before known names, the most frequent first, of equals the shorter."""
    counts: Counter[str] = Counter()
    for name in names:
        at = 0
        while at >= 0:
            if name[at:] in known:
                counts[name[:at]] += 1
            at = name.find(".", at) + 1 or -1
    usual = sorted(counts, key=lambda prefix: (-counts[prefix], len(prefix), prefix))
    return usual[:SEVERAL]


def choose(
    found: Mapping[str, torch.Tensor], known: Collection[str], fits: Callable[[Tensors], bool]
) -> Choice:
    """Find the prefix behind which everything fits, or else most names are known.

    Averaged weights come before plain ones: they are what trainers evaluate and publish.
    """
    if fits(behind(found, "")):
        return Choice("", True)
    tried = prefixes(found, known)
    whole = [prefix for prefix in tried if prefix and fits(behind(found, prefix))]
    if not whole:
        return Choice(next(iter(tried), ""), False)
    begun = [prefix for prefix in whole if not _never_averaged(found, prefix)] or whole
    averaged = [prefix for prefix in begun if AVERAGED.search(prefix)]
    best, *others = averaged or begun
    if others and not all(_equal(found, best, other) for other in others):
        return Choice(best, True, rivals=(best, *others))
    note = f"what is under `{shown(best.rstrip('.'))}`"
    if _never_averaged(found, best):
        note += f", of which no average was taken yet ({COUNTER} is 0)"
    plain = [prefix for prefix in whole if not AVERAGED.search(prefix)]
    if averaged and plain:
        note += (
            f": the averaged weights, which trainers evaluate, not the plain ones under "
            f"`{shown(plain[0].rstrip('.'))}`"
        )
    return Choice(best, True, note)


def _never_averaged(found: Mapping[str, torch.Tensor], prefix: str) -> bool:
    count = found.get(prefix.removesuffix("module.") + COUNTER)
    return count is not None and count.numel() == 1 and int(count) == 0


def _equal(found: Mapping[str, torch.Tensor], one: str, other: str) -> bool:
    ours, theirs = behind(found, one), behind(found, other)
    return ours.keys() == theirs.keys() and all(ours[n].equal(theirs[n]) for n in ours)
