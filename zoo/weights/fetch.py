"""One URL to one file: all of it with the right hash, or nothing.

What a broken try leaves is continued, by the next try or the next process; the hash is of the
whole file in any case, and a continued file that is wrong is fetched once more from its start.
"""

from __future__ import annotations

import errno
import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from zoo.disk import no_room, writing
from zoo.errors import WeightsError
from zoo.watch import Progress, undoing
from zoo.weights.hashes import is_full, remember
from zoo.weights.http import Again, Answer, Restart, Unreachable, ask_for, why
from zoo.weights.partial import BLOCK, WORTH, Partial

PAUSES = (0.5, 1.5)  # seconds before the second and the third try
NOT_KEPT = "nothing was kept: try again, or set ZOO_WEIGHTS to a folder or mirror that you trust"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file is, and what it must be.

    sha256: 64 hex digits or a prefix. md5: 32, for publishers that give no better. size: in bytes.
    token: bearer, for the host of `url` alone.
    """

    url: str
    sha256: str = ""
    md5: str = ""
    size: int | None = None
    token: str = ""


@dataclass(slots=True)
class _Job:
    """One download. stated: the sha256 that the first host gave; total: bytes of the file."""

    source: Source
    part: Partial
    progress: Progress | None
    stated: str = ""
    total: int | None = None


def fetch(source: Source, destination: Path, progress: Progress | None = None) -> str:
    """Download `source` to `destination` and return its full sha256.

    The caller holds the lock of the file, where another process may want it too. progress: called
    with (bytes done, bytes in all or None). Raises Unreachable (a WeightsError), WeightsError for
    a file that is not the right one, WriteError for the disk.
    """
    part = Partial(destination, known=is_full(source.sha256) or bool(source.md5))
    try:
        with undoing(part.leave):
            digest = _persist(_Job(source, part, progress))
    except BaseException as error:  # also a signal, or the disk
        if isinstance(error, WeightsError) and not isinstance(error, Unreachable):
            part.drop()
        part.leave()
        raise
    remember(destination, digest)
    return digest


def _persist(job: _Job) -> str:
    """Try until it is there, or until nothing more has come for as many tries as there are."""
    failures = restarts = furthest = 0
    while True:
        try:
            return _attempt(job)
        except Restart:
            job.part.drop()
            restarts += 1
            if restarts > 2:
                what = f"{job.source.url}: answers with other parts than asked for"
                raise Unreachable(what) from None
        except Again as error:
            failures = 1 if job.part.size - furthest >= WORTH else failures + 1
            furthest = max(furthest, job.part.size)
            if not (job.part.known or job.part.validator):
                job.part.drop()  # nothing would tell that the rest is of the same file
            if failures > len(PAUSES):
                what = f"{job.source.url}: {error} ({len(PAUSES) + 1} tries)"
                raise Unreachable(what, "try again later") from error
            time.sleep(PAUSES[failures - 1])


def _attempt(job: _Job) -> str:
    source, part = job.source, job.part
    whole = part.size > 0 and part.size == source.size and is_full(source.sha256)
    if not whole:
        answer = ask_for(source.url, source.token, part.size, part.validator)
        with closing(answer.body):
            _begin(job, answer)
            _copy(job, answer)
    return _verified(job)


def _begin(job: _Job, answer: Answer) -> None:
    """Refuse another size and a full disk before the first byte; make a place for a new start."""
    job.stated, size = answer.sha256, job.source.size
    if size is not None and answer.size not in (None, size):
        raise WeightsError(f"{job.source.url} offers {answer.size} bytes, not {size}", NOT_KEPT)
    job.total = answer.size if size is None else size
    if answer.start == 0:  # it cannot continue, or the file has changed
        job.part.drop()
    _check_room(job)
    job.part.begin(answer.validator)
    job.part.resumed |= answer.start > 0


def _check_room(job: _Job) -> None:
    place, wanted = job.part.destination, (job.total or 0) - job.part.size
    with writing(place):
        free = shutil.disk_usage(place.parent).free
    if free < wanted:
        why = f"{wanted / 1e6:,.0f} MB wanted, {free / 1e6:,.0f} MB free"
        raise no_room(place, why, errno.ENOSPC)


def _copy(job: _Job, answer: Answer) -> None:
    """Write the body. Stops soon after `total`."""
    from http.client import HTTPException

    part = job.part
    while job.total is None or part.size <= job.total:
        try:  # what there is at once, so that little is lost when it breaks
            block = answer.body.read1(BLOCK)  # type: ignore[attr-defined]
        except (OSError, HTTPException) as error:
            raise Again(f"the connection broke after {part.size} bytes ({why(error)})") from error
        if not block:
            break
        part.write(block)
        if job.progress is not None:
            job.progress(part.size, job.total)
    if answer.size is not None and part.size < answer.size:
        raise Again(f"the connection broke after {part.size} of {answer.size} bytes")


def _verified(job: _Job) -> str:
    """Return the sha256 of what has arrived, which is now the file."""
    part, url = job.part, job.source.url
    digest, md5, wrong = part.sha256.hexdigest(), part.md5.hexdigest(), ""
    if part.size == 0 or job.total not in (None, part.size):
        wrong = f"{url} holds {part.size} bytes, not {job.total or 'a file'}"
    elif job.source.md5 and md5 != job.source.md5.lower():
        wrong = f"{url}: md5 is {md5}, not {job.source.md5.lower()}"
    for wanted in (job.source.sha256.lower(), job.stated):
        if not digest.startswith(wanted):
            wrong = wrong or f"{url}: sha256 is {digest}, not {wanted}"
    if wrong and part.resumed:
        raise Restart  # the part that was there may be to blame
    if wrong:
        raise WeightsError(wrong, NOT_KEPT)
    part.become()
    return digest
