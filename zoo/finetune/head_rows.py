"""Rows of a run's head for the classes that a new run shares with it, matched by name.

A head that is trained in steps begins with them. One that is solved for has one optimum, from
wherever it is looked for, and class means and neighbours are what they are: there is nothing to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import weights
from zoo.data.names import matching
from zoo.features.standardise import Scaling
from zoo.finetune.facts import NetworkFacts
from zoo.head.kinds import kind_of
from zoo.run import Run

if TYPE_CHECKING:
    from torch import nn


def shared(facts: NetworkFacts, classes: tuple[str, ...]) -> dict[str, str]:
    """Return the class of the run that each of these is; nothing where no run is started from."""
    run = _run(facts)
    return matching(classes, run.record.get("classes", ())) if run else {}


def told(facts: NetworkFacts, classes: tuple[str, ...], head: str, at_once: bool) -> str:
    """Return what becomes of the run's rows, in words; at_once: the head is not trained in steps.

    Nothing where no run is started from, or it has none of the classes.
    """
    same, run = shared(facts, classes), _run(facts)
    if not same or run is None:
        return ""
    where = f"{len(same)} of {len(classes)} classes are in {run.folder}"
    if at_once:
        return f"{where}: its rows would change nothing, the head is the same from any start"
    if not _fits(run.record["head"], head):
        return f"{where}, whose head is another ({run.record['head']}): all rows are new"
    return f"{where}, and begin with its rows"


def take(
    chain: nn.Sequential,
    facts: NetworkFacts,
    classes: tuple[str, ...],
    head: str,
    scaling: Scaling | None,
) -> int:
    """Put the run's rows of shared classes into a fresh head; return of how many classes.

    scaling: of the features that the fresh head gets; those of the run were as they are.
    """
    import torch

    same, run = shared(facts, classes), _run(facts)
    if not same or run is None or not _fits(run.record["head"], head):
        return 0
    stage, theirs = f"{facts.head}.", list(run.record["classes"])
    file = run.path("model.safetensors")
    names = [name for name in weights.shapes(file) if name.startswith(stage)]
    arrays, own = weights.read_arrays(file, names), chain.state_dict()
    ours = [number for number, name in enumerate(classes) if name in same]
    rows = [theirs.index(same[classes[number]]) for number in ours]
    first, last = (end(name.rpartition(".")[0] for name in names) for end in (min, max))
    if scaling is not None:
        weight, bias = arrays[f"{first}.weight"], arrays[f"{first}.bias"]
        arrays[f"{first}.bias"] = bias + weight @ scaling.mean.reshape(-1)
        arrays[f"{first}.weight"] = weight * np.float32(scaling.scale)
    with torch.no_grad():
        for name, array in arrays.items():
            there = name in own and own[name].shape[1:] == array.shape[1:]
            if there and name.rpartition(".")[0] == last and len(array) == len(theirs):
                own[name][ours] = torch.from_numpy(array)[rows]
            elif there and own[name].shape == array.shape:  # the hidden layer
                own[name].copy_(torch.from_numpy(array))
    return len(ours)


def _run(facts: NetworkFacts) -> Run | None:
    if facts.origin["tag"] != "run":
        return None
    return Run.open(Path(str(facts.origin["file"])))


def _fits(theirs: str, ours: str) -> bool:
    """Return whether the heads of two kinds have the same layers."""
    one, other = kind_of(theirs), kind_of(ours)
    same = (one.layer, one.number) == (other.layer, other.number)
    return same and one.layer in ("linear", "mlp")
