"""From a name to a chain: the zoo's own networks and, by adapters, those of the libraries.

assembly.py builds them; it needs torch, so its functions are found when they are asked for first.
cut.py divides a chain, and plans without torch know it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.catalog.structures import StageInfo
    from zoo.models.assembly import build, describe, replace_head, resolve, stages

__all__ = ["StageInfo", "build", "describe", "replace_head", "resolve", "stages"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'zoo.models' has no attribute {name!r}")
    from zoo.models import assembly

    return getattr(assembly, name)
