"""Shards to parts: what is there is skipped, the rest is computed and put there in one step.

A marker started/NNNNNN.K is written before the K-th try of a shard. A try that ends for a reason
that is known (a signal, a full disk, the network) takes its marker away, so that several mean that
something ends the process: from the second on each photo is decoded in a process with limits, from
the fourth ranges of photos are answered in processes of their own (see `apart`), until the one that
does it is found.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from zoo.errors import UsageError, ZooError
from zoo.scale import apart, parts, plan
from zoo.scale.answers import Answers, Opener, open_answers
from zoo.scale.plan import Photo, Shards
from zoo.watch import Progress, check, undoing

CAREFUL, SEARCHING = 2, 4  # the tries from which photos are decoded apart, and answered apart


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a shard: rows is 0 where its part was there; quicker: by somebody else."""

    shard: int
    rows: int = 0
    errors: int = 0
    quicker: bool = False


def share(shards: int, text: str) -> range:
    """Return the shards of process I of N, from `I/N`. Raises UsageError."""
    number, _, many = text.partition("/")
    whole = number.isdecimal() and many.isdecimal()
    if not whole or not int(number) < int(many):
        raise UsageError(
            f"--shard {text}: it is I/N, the process I of N, counted from 0",
            "give --shard 0/1 for all, or 0/4, 1/4, 2/4 and 3/4 in four processes",
        )
    return range(int(number), shards, int(many))


class Worker:
    """One process at work; the network is opened when a shard needs it."""

    def __init__(self, shards: Shards, opener: Opener, answers: Answers | None = None) -> None:
        self.shards, self.opener = shards, opener
        self._answers = answers

    def work(self, mine: Iterable[int], progress: Progress) -> Iterator[Receipt]:
        """Do these shards one after the other. progress: of the photos of one shard."""
        for shard in mine:
            check()
            yield self.shard(shard, progress)

    def shard(self, shard: int, progress: Progress = lambda done, total: None) -> Receipt:
        """Do one shard, unless it is done."""
        store, name = self.shards.store, parts.name_of(shard)
        if store.there(name):
            return Receipt(shard)
        answers = self.answers  # what fails here is no photo's fault
        with _started(self.shards, shard) as attempt:
            photos = self.shards.photos(shard)
            found = []
            for row in self._rows(photos, attempt):
                found.append(row)
                progress(len(found), len(photos))
            about = {
                "plan_id": self.shards.plan.plan_id,
                "shard": str(shard),
                "engine": answers.engine,
            }
            content = parts.written(found, answers.schema, about)
            won = store.create(name, content)
        errors = sum(row["status"] == "error" for row in found)
        return Receipt(shard, len(found), errors, not won)

    @property
    def answers(self) -> Answers:
        if self._answers is None:
            self._answers = self.opener()
        return self._answers

    def _rows(self, photos: list[Photo], attempt: int) -> Iterator[parts.Cells]:
        if attempt < SEARCHING:
            return self.answers.rows(photos, attempt >= CAREFUL)
        return apart.rows(self.opener, self.answers, photos)


def opened(place: str, device: str) -> Worker:
    """Return a worker on the job at a place. Raises InputError."""
    shards = plan.opened(place)
    return Worker(shards, partial(open_answers, shards.plan.settings, device))


@contextmanager
def _started(shards: Shards, shard: int) -> Iterator[int]:
    """Yield the number of this try; where it ends for a reason that is told, it was none."""
    store = shards.store
    for attempt in itertools.count(1):
        name = f"started/{shard:06d}.{attempt}"
        if store.create(name, b""):
            break
    with undoing(lambda: store.remove(name)):
        try:
            yield attempt
        except (ZooError, KeyboardInterrupt):
            store.remove(name)
            raise
