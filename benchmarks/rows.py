"""What every row of the catalogue measures, for pasting into it: parameters, multiply-adds, memory.

python -m benchmarks.rows [NAME ...]     exit 1 where a row says something else
"""

from __future__ import annotations

import sys

import torch

from zoo import catalog, models


def measured(name: str) -> dict[str, int]:
    """A row's counts, as its chain has them."""
    row = catalog.find(name)
    with torch.device("meta"):
        infos = models.describe(models.build(row), row)
    return {
        "params": sum(info.params for info in infos),
        "macs": sum(info.macs for info in infos),
        "activations": max(info.activations for info in infos),
    }


def main() -> int:
    differ = False
    for name in sys.argv[1:] or catalog.ROWS:
        row, found = catalog.find(name), measured(name)
        print(name)
        for key, value in found.items():
            said = getattr(row, key)
            differ |= said != value
            print(f"    {key}={value:_}," + ("" if said == value else f"  # the row says {said:_}"))
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
