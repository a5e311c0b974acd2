"""How long a feature pass takes for a photo, kept from when it was measured on this machine.

So that a ranking whose features are kept computes nothing: to time it anew, a graph would be
compiled first, which takes longer than all the rest. Of one set of photos, since large ones take
longer to decode.
"""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from zoo.disk import read_sealed, write_sealed
from zoo.engine.store import known_at
from zoo.machine import cores


@dataclass(frozen=True, slots=True)
class PassTime:
    """Milliseconds for a view of a photo, decoded and run forward, and when that was measured.

    when: UTC, as in 2026-05-01T12:00:00+00:00.
    """

    ms: float
    when: str


def recall(features: Path, photos: Path) -> PassTime | None:
    """Return what was measured here. features: the folder of their cache. photos: of the set."""
    with suppress(ValueError, TypeError):
        return PassTime(**json.loads(read_sealed(_place(features, photos)) or b""))
    return None


def keep(features: Path, photos: Path, ms: float) -> PassTime:
    """Keep what was measured now and return it."""
    now = PassTime(ms, datetime.now(UTC).isoformat(timespec="seconds"))
    write_sealed(_place(features, photos), json.dumps(asdict(now)).encode())
    return now


def _place(features: Path, photos: Path) -> Path:
    """Return where a time is kept: of another machine, or other cores of it, elsewhere."""
    facts = [features.name, str(photos.absolute()), platform.node(), cores()]
    return known_at("pass-", facts)
