"""What exists: the rows of the zoo's own networks, and how to find one by name."""

from __future__ import annotations

from zoo.catalog.classics import CLASSICS
from zoo.catalog.spec import ModelSpec, Preprocess, Weights
from zoo.errors import UnknownModel, nearest

__all__ = ["ROWS", "ModelSpec", "Preprocess", "Weights", "find"]

ROWS: dict[str, ModelSpec] = {row.name: row for row in CLASSICS}
if len(ROWS) != len(CLASSICS):
    raise RuntimeError("two rows of the catalogue have the same name")


def find(name: str) -> ModelSpec:
    """The row of this name. Raises UnknownModel with the nearest names."""
    if name in ROWS:
        return ROWS[name]
    close = nearest(name.lower(), ROWS)
    raise UnknownModel(
        f"there is no model called '{name}'" + (f"; {close}" if close else ""),
        "run `zoo list` for the catalogue; torchvision/NAME and timm/NAME give any other classifier",
    )
