"""The features of a job in files of this machine, of which any rows are read when asked for.

Parts are compressed, and may lie in a bucket: they are read once. A process copies what it is to
read, in the plan's order, into the cache folder; it goes with the process.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np

from zoo import weights
from zoo.disk import unfinished, writing
from zoo.engine import store
from zoo.features.cache import Features
from zoo.head.stored import Stored
from zoo.metrics import Array
from zoo.scale import parts
from zoo.scale.listed import NAMES, Listed
from zoo.scale.plan import Shards
from zoo.watch import Progress, check

_ROWS = 1 << 24  # bytes of features that are decoded at once


@contextmanager
def held() -> Iterator[Path]:
    """Yield a folder for features, held by this process; those of processes that died go.

    It is held before it has its name: one that nobody holds belongs to nobody.
    """
    folder = weights.cache_folder() / "solving"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.iterdir():
            with suppress(OSError):
                if _is_nobodys(other):
                    store.remove(other)
        place = folder / f"tmp{secrets.token_hex(4)}"
        with store.unfinished(place) as hidden, unfinished(place):
            with writing(place):
                (hidden / store.ABOUT).touch()
                lease = store.lock(hidden)
                hidden.rename(place)
            try:
                yield place
            finally:
                if lease is not None:
                    store.unlock(lease)


def _is_nobodys(place: Path) -> bool:
    """Return whether the process of a folder has died; where nothing can be locked: is it old."""
    lease = store.lock(place, exclusive=True)
    if lease is not None:
        store.unlock(lease)
        if lease != store.NO_LOCKS and not place.name.startswith("."):
            return True
    return time.time() - place.stat().st_mtime > store.STALE


def copied(
    shards: Shards,
    listed: Listed,
    place: Path,
    wanted: Callable[[int], Collection[str]],
    progress: Progress,
) -> dict[str, Stored]:
    """Copy features into a file for each of train, val and test; return those that have rows.

    wanted: which of the three of a shard. Raises IncompleteError, DiskFull.
    """
    width, rows, first = shards.plan.settings.width, dict.fromkeys(NAMES, 0), 0
    with ExitStack() as opened:
        files = {name: opened.enter_context((place / name).open("wb")) for name in NAMES}
        for shard in range(shards.plan.shards):
            check()
            progress(shard, shards.plan.shards)
            many, _ = shards.expected(shard)
            part = listed.part[first : first + many]
            first += many
            mine = [name for name in wanted(shard) if (part == NAMES.index(name)).any()]
            for start, features in _features(shards, shard) if mine else ():
                here = part[start : start + len(features)]
                for name in mine:
                    chosen = features[here == NAMES.index(name)]
                    rows[name] += len(chosen)
                    with writing(place):
                        files[name].write(chosen.data)
    return {name: Stored(place / name, (many, width)) for name, many in rows.items() if many}


def _features(shards: Shards, shard: int) -> Iterator[tuple[int, Array]]:
    """Yield the rows of a part, some at a time, with the number of the first; nan where none is."""
    width, start = shards.plan.settings.width, 0
    for column in parts.in_pieces(shards, shard, "features", max(1, _ROWS // (4 * width))):
        rows = np.full((len(column), width), np.nan, np.float32)
        values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
        rows[column.is_valid().to_numpy(zero_copy_only=False)] = values.reshape(-1, width)
        yield start, rows
        start += len(rows)


class Copied(Features):
    """The features of the photos of a part, as one array or file, N x D."""

    def __init__(self, rows: Array | Stored, shape: tuple[int, ...]) -> None:
        """shape: of the features of one photo, as what is trained takes them."""
        self.whole, self.shape = rows, shape

    def __len__(self) -> int:
        return len(self.whole)

    def flat(self) -> Array:
        return cast(Array, self.whole)  # a file is cut into pieces as an array is

    def gather(self, indices: Sequence[int]) -> Array:
        whole = isinstance(indices, range) and indices.step == 1 and len(indices) > 0
        chosen = slice(indices[0], indices[-1] + 1) if whole else np.asarray(indices, int)
        return self.whole[chosen].reshape(-1, *self.shape)
