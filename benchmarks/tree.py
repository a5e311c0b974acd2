"""What the tree as a whole may cost: its default tests, a base install, a cache of many keys.

    python -m benchmarks.tree [suite] [install] [keys]      all three where none is named

Seconds of the default suite by the clock (for two quiet cores), size of the wheel installed
without torch, and what opening a cache of ten million keys takes. A part that is not run keeps
its last result.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, ROOT, arguments, machine, python, run, save, verdict

Bars = list[dict[str, Any]]
KEYS = 10_000_000
FILL = """if True:
    import sys
    from pathlib import Path
    import numpy as np
    from zoo.features import cache, parts
    chance = np.random.default_rng(0)
    for first in range(0, int(sys.argv[2]), cache.PART_ROWS):
        rows = min(cache.PART_ROWS, int(sys.argv[2]) - first)
        photos = chance.bytes(32 * rows)
        keys = [photos[at : at + 32] + bytes(8) for at in range(0, 32 * rows, 32)]
        parts.write(Path(sys.argv[1]), keys, np.full((rows, 2), first, np.float32))
"""
OPEN = """if True:
    import sys, time
    from pathlib import Path
    from zoo.features.cache import FeatureCache
    began = time.perf_counter()
    cache = FeatureCache(Path(sys.argv[1]), {})
    print(time.perf_counter() - began, len(cache.tables[0]))
"""


def suite() -> Bars:
    """Run the default tests; one that fails ends the measurement."""
    job = run(python("-m", "pytest", "-q"))
    passed = re.search(r"(\d+) passed", job.out)
    print(f"{passed[1] if passed else 0} tests, {job.cpu:.0f} CPU s")
    return [verdict("default suite, s on two quiet cores", job.wall, 300, at_most=True)]


def install() -> Bars:
    """Build the wheel, install it with the pinned versions and no extra, with byte code."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    with tempfile.TemporaryDirectory() as folder:
        own, pinned = Path(folder) / "base", Path(folder) / "pins.txt"
        pinned.write_text("\n".join(pins["constraint-dependencies"]))
        run(["uv", "build", "--quiet", "--wheel", "--out-dir", folder])
        (wheel,) = Path(folder).glob("*.whl")
        run(["uv", "venv", "--quiet", own])
        words = ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(own)]
        # copied, so that all of it is counted
        run([*words, "-c", pinned, wheel], env={"UV_LINK_MODE": "copy"})
        files = (Path(at) / name for at, _, names in os.walk(own) for name in names)
        size = sum(file.lstat().st_size for file in files)
    return [verdict("base install, GB", size / 1e9, 0.6, at_most=True)]


def keys() -> Bars:
    """Fill a cache and open it twice: the first opening tabulates what others have written."""
    with tempfile.TemporaryDirectory() as folder:
        run(python("-c", FILL, folder, str(KEYS)))
        print(f"tabulated once, in {run(python('-c', OPEN, folder)).wall:.0f} s")
        job = run(python("-c", OPEN, folder))
    seconds, found = job.out.split()
    if int(found) != KEYS:
        raise SystemExit(f"{found} of {KEYS} keys were found")
    return [
        verdict(f"opening a cache of {KEYS:,} keys, s", float(seconds), 0.5, at_most=True),
        verdict(f"opening a cache of {KEYS:,} keys, MB in all", job.memory, 100, at_most=True),
    ]


PARTS: dict[str, Callable[[], Bars]] = {"suite": suite, "install": install, "keys": keys}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("parts", nargs="*", choices=PARTS, help="suite, install, keys (all)")
    wanted = parser.parse_args().parts or list(PARTS)
    file = RESULTS / "tree.json"
    bars = json.loads(file.read_text())["bars"] if file.exists() else {}
    facts = machine()
    for part in wanted:
        bars[part] = PARTS[part]()
        save("tree", facts, {"bars": bars})


if __name__ == "__main__":
    main()
