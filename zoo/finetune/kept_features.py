"""What a finished run's head was found on: the features of its photos, from the cache or anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from zoo import device
from zoo.data.index import Sample
from zoo.data.samples import evenly
from zoo.engine.open import NetworkRef, Opened, open_engine
from zoo.errors import DataError
from zoo.features.cache import FeatureCache, cache_of
from zoo.features.compute import Views, compute
from zoo.metrics import Array
from zoo.network_ref import frozen_of_run
from zoo.run import Run
from zoo.watch import Watch, stop

PLAIN = Views()
ANEW = 200  # photos that are computed for a look at some


@dataclass(frozen=True)
class KeptFeatures:
    """The frozen part of a run whose head is apart from it, with its cache."""

    run: Run
    ref: NetworkRef
    opened: Opened
    cache: FeatureCache
    watch: Watch

    @classmethod
    def of(cls, run: Run, watch: Watch) -> KeptFeatures:
        """Open them. Raises what opening an engine does."""
        ref, place = frozen_of_run(run), device.choose("cpu", run.record["precision"])
        opened = open_engine(ref, "auto", place)
        return cls(run, ref, opened, cache_of(ref, opened), watch)

    @cached_property
    def views(self) -> Views:
        """Return the views of each training photo that the head was found on."""
        record = self.run.record
        numbers = tuple(range(max(1, record.get("views", 1))))
        return Views(numbers, record.get("view_seed", 0), bool(record.get("flip", True)))

    def of_photos(self, root: Path, paths: Sequence[str], views: Views) -> dict[str, Array]:
        """Return the features of each photo that can be read, views x D."""
        work = [(Sample(path, 0, ""), views) for path in paths]
        found = compute(
            self.cache, self.opened.engine, self.ref.preprocess, root, work, self._progress
        )
        return {path: self.cache.rows(keys).flat() for path, keys in found.keys.items()}

    def of_part(self, part: str, views: Views) -> tuple[Array, list[str]]:
        """Return the features of a part, N x D, and the class of each row.

        By the content that the run has seen, wherever the photo is now; one that is not kept is
        computed anew. Raises DataError for one that is neither kept nor where it was.
        """
        root = Path(self.run.record["data"]["root"])
        listed = [row for row in self.run.index() if row["split"] == part]
        seen = {row["path"]: bytes.fromhex(row.get("sha256") or "") for row in listed}
        keys = {path: views.keys(digest) for path, digest in seen.items() if digest}
        kept = {path for path, own in keys.items() if all(key in self.cache for key in own)}
        rest = [path for path in seen if path not in kept]
        fresh = self.of_photos(root, rest, views) if rest else {}
        if gone := [path for path in rest if path not in fresh]:
            raise DataError(
                f"{len(gone):,} of the {len(seen):,} {part} photos of {self.run.folder} are not in "
                f"{root} any more, and their features are not kept: {gone[0]}",
                "put the photos back; prototype:cosine and knn heads need no training photo",
            )
        rows = [
            self.cache.rows(keys[path]).flat() if path in kept else fresh[path] for path in seen
        ]
        labels = [row["label"] for row in listed for _ in views.numbers]
        return np.concatenate(rows), labels

    def of_some(self, part: str, most: int) -> tuple[list[str], Array]:
        """Return the paths of at most so many photos of a part, and the plain features of each.

        Of those that are kept, from all over the part; where none is, ANEW are computed.
        """
        listed = [row for row in self.run.index() if row["split"] == part and row.get("sha256")]
        keys = {row["path"]: PLAIN.key(bytes.fromhex(row["sha256"]), 0) for row in listed}
        kept = evenly([path for path, key in keys.items() if key in self.cache], most)
        if kept:
            return list(kept), self.cache.rows([keys[path] for path in kept]).flat()
        root = Path(self.run.record["data"]["root"])
        found = self.of_photos(root, evenly(list(keys), min(most, ANEW)), PLAIN)
        rows = list(found.values())
        return list(found), np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)

    def _progress(self, done: int, total: int) -> None:
        self.watch.progress("features", done, total)
        stop(self.watch.signal)
