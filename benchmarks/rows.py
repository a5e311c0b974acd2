"""What every row of the catalogue measures, for pasting into it: counts, stages, head and cut.

python -m benchmarks.rows [NAME ...]     exit 1 where a row says something else
"""

from __future__ import annotations

import sys
import textwrap

import torch
from torch import nn

from zoo import catalog, models

WIDE = 80  # characters of a text in a row


def measured(name: str) -> dict[str, object]:
    """Return what a row's chain says; of the cut, which is chosen, a usual one if it has none."""
    row = catalog.find(name)
    with torch.device("meta"):
        chain = models.build(row)
    infos = models.describe(chain, row)
    found: dict[str, object] = {
        "params": sum(info.params for info in infos),
        "macs": sum(info.macs for info in infos),
        "activations": max(info.activations for info in infos),
        "stages": tuple(info.name for info in infos),
    }
    if row.task == "reconstruct":
        return found
    kinds = nn.Linear | nn.Conv2d
    heads = [part for part, layer in chain.named_modules() if isinstance(layer, kinds)]
    before = infos[: [info.name for info in infos].index(heads[-1].partition(".")[0])]
    usual = [info.name for info in before if info.params] or [info.name for info in before]
    return {**found, "cut": row.cut or usual[-1], "head": heads[-1]}


def _shown(value: object) -> str:
    """Return a value as the source of a row has it; stages as `catalog.lectures` takes them."""
    if isinstance(value, tuple):
        first, *more = textwrap.wrap(" ".join(value), WIDE)
        return (
            f'"{first}"'
            if not more
            else "(" + "".join(f'\n        "{part} "' for part in (first, *more)) + "\n    )"
        )
    return f"{value:_}" if isinstance(value, int) else f'"{value}"'


def main() -> int:
    differ = False
    for name in sys.argv[1:] or catalog.ROWS:
        row = catalog.find(name)
        print(name)
        for key, value in measured(name).items():
            said = getattr(row, key)
            differ |= said != value
            told = "" if said == value or not said else f"  # the row says {_shown(said)}"
            print(f"    {key}={_shown(value)},{told}")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
