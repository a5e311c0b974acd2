"""The feature pass, divided among the processes of a team."""

from __future__ import annotations

from pathlib import Path

from zoo.catalog import Preprocess
from zoo.engine import Engine
from zoo.errors import CacheError
from zoo.features.cache import FeatureCache
from zoo.features.compute import Pass, Work, compute
from zoo.train.distributed import Ranks
from zoo.watch import Counted


def shared(
    ranks: Ranks,
    cache: FeatureCache,
    place: tuple[Engine, Preprocess, Path],
    work: Work,
    progress: Counted,
) -> tuple[FeatureCache, Pass]:
    """Return the pass over all of the work, and the cache with what it gave.

    Each process does the part of the list that its number says, whatever of it is there already:
    the list is the same for all, and stays. Raises CacheError where they have no cache in common.
    """
    own = work[ranks.rank :: ranks.world]
    found = compute(cache, *place, own, progress)
    if ranks.single:
        return cache, found
    digests = [found.keys[s.path][0][:32].hex() if s.path in found.keys else "" for s, _ in own]
    whole = Pass()
    for rank, said in enumerate(ranks.all_gather([digests, found.bad, found.computed])):
        whole.bad |= said[1]
        whole.computed += said[2]
        for (sample, views), digest in zip(work[rank :: ranks.world], said[0], strict=True):
            if digest:
                whole.keys[sample.path] = views.keys(bytes.fromhex(digest))
    cache = FeatureCache(cache.folder, {})
    if any(key not in cache for keys in whole.keys.values() for key in keys):
        raise CacheError(
            f"{cache.folder} has not got what the other processes have computed",
            "set ZOO_CACHE to a folder that all machines share",
        )
    return cache, whole
