"""The page of a check: every finding, with small pictures of the photos that it is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoo import __version__
from zoo.data.decode import decode, read_bytes
from zoo.errors import ImageError
from zoo.report.page import small_picture, write_page

TILES = 24  # photos of a finding on the page
ROWS = 200  # lines of a finding that has no pictures
Tile = dict[str, object]


def write(path: Path, checked: dict[str, Any], command: str) -> None:
    """Write the page of a check, as `Checked.to_dict` gives it."""
    findings = [_section(checked["root"], each) for each in checked["findings"]]
    write_page(
        path, "check.html.j2", checked=checked, findings=findings, command=command,
        version=__version__,
    )  # fmt: skip


def _section(root: str, finding: dict[str, Any]) -> dict[str, Any]:
    """Return a finding with the tiles, or the rows, that are shown of it, and how many are not."""
    examples = finding["examples"]
    if not finding["pictures"]:
        rows = [[*(list(e["paths"]) or [""]), e["said"]] for e in examples[:ROWS]]
        width = max((len(row) for row in rows), default=0)
        rows = [[*row[:-1], *[""] * (width - len(row)), row[-1]] for row in rows]
        return {**finding, "rows": rows, "tiles": [], "left": max(0, len(examples) - ROWS)}
    tiles: list[Tile] = []
    shown = 0
    for example in examples:
        if len(tiles) + len(example["paths"]) > TILES:
            break
        shown += 1
        pair = f"pair {shown}" if len(example["paths"]) > 1 else ""
        said = ", ".join(filter(None, (pair, example["said"])))
        tiles += [_tile(root, name, said) for name in example["paths"]]
    return {**finding, "rows": [], "tiles": tiles, "left": len(examples) - shown}


def _tile(root: str, name: str, said: str) -> Tile:
    try:
        picture = small_picture(decode(read_bytes(os.path.join(root, name))))
    except ImageError:  # it was there a moment ago
        picture = ""
    return {"picture": picture, "alt": name, "lines": [line for line in (name, said) if line]}
