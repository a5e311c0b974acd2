"""One URL to one file: all of it with the right hash, or nothing.

What a broken try leaves is continued, by the next try or the next process; the hash is of the
whole file in any case, and a continued file that is wrong is fetched once more from its start.
"""

from __future__ import annotations

import errno
import http.client
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from zoo.disk import no_room, writing
from zoo.errors import WeightsError
from zoo.watch import undoing
from zoo.weights.hashes import is_full, remember
from zoo.weights.http import Again, Answer, Restart, Unreachable, ask_for, why
from zoo.weights.partial import BLOCK, WORTH, Partial, adopt

__all__ = ["Progress", "Unreachable", "fetch"]

Progress = Callable[[int, int | None], None]

PAUSES = (0.5, 1.5)  # seconds before the second and the third try
NOT_KEPT = "nothing was kept: try again, or set ZOO_WEIGHTS to a folder or mirror that you trust"


@dataclass(slots=True)
class _Job:
    """One download. part: what has arrived so far; stated: the sha256 that the first host gave."""

    url: str
    destination: Path
    sha256: str
    md5: str
    size: int | None
    token: str
    progress: Progress | None
    part: Partial | None = None
    stated: str = ""
    total: int | None = None

    @property
    def known(self) -> bool:
        """Whether the hash alone can tell that what was continued is the right file."""
        return is_full(self.sha256) or bool(self.md5)

    @property
    def done(self) -> int:
        return self.part.size if self.part else 0

    def leave(self) -> None:
        """For a later process to go on with."""
        if self.part is not None:
            self.part.leave(known=self.known)


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str = "",
    md5: str = "",
    size: int | None = None,
    token: str = "",
    progress: Progress | None = None,
) -> str:
    """Download `url` to `destination` and return its full sha256.

    sha256: 64 hex digits or a prefix. md5: 32, for publishers that give no better. size: in bytes.
    token: bearer, for the host of `url` alone. progress: called with (bytes done, bytes in all or
    None). Raises Unreachable (a WeightsError), WeightsError for a file that is not the right one,
    WriteError for the disk.
    """
    job = _Job(url, destination, sha256.lower(), md5.lower(), size, token, progress)
    job.part = adopt(destination, known=job.known)
    try:
        with undoing(job.leave):
            digest = _persist(job)
    except WeightsError as error:
        if job.part is not None:
            job.part.leave(known=job.known) if isinstance(error, Unreachable) else job.part.drop()
        raise
    except BaseException:  # a signal, or the disk
        job.leave()
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
            if job.part is not None:
                job.part.drop()
                job.part = None
            restarts += 1
            if restarts > 2:
                raise Unreachable(f"{job.url}: answers with other parts than asked for") from None
        except Again as error:
            failures = 1 if job.done - furthest >= WORTH else failures + 1
            furthest = max(furthest, job.done)
            if job.part is not None and not (job.known or job.part.validator):
                job.part.drop()  # nothing would tell that the rest is of the same file
                job.part = None
            if failures > len(PAUSES):
                what = f"{job.url}: {error} ({len(PAUSES) + 1} tries)"
                raise Unreachable(what, "try again later") from error
            time.sleep(PAUSES[failures - 1])


def _attempt(job: _Job) -> str:
    if not (job.part and job.done == job.size and is_full(job.sha256)):  # else it is all there
        validator = job.part.validator if job.part else ""
        answer = ask_for(job.url, job.token, job.done, validator)
        with closing(answer.body):
            _begin(job, answer)
            _copy(job, answer)
    return _verified(job)


def _begin(job: _Job, answer: Answer) -> None:
    """Refuse another size and a full disk before the first byte; make a place for a new start."""
    job.stated = answer.sha256
    if job.size is not None and answer.size not in (None, job.size):
        raise WeightsError(f"{job.url} offers {answer.size} bytes, not {job.size}", NOT_KEPT)
    job.total = answer.size if job.size is None else job.size
    if job.part is not None and answer.start == 0:  # it cannot continue, or the file has changed
        job.part.drop()
        job.part = None
    _check_room(job)
    if job.part is None:
        job.part = Partial.new(job.destination, answer.validator)
    job.part.resumed |= answer.start > 0


def _check_room(job: _Job) -> None:
    with writing(job.destination):
        free = shutil.disk_usage(job.destination.parent).free
    if job.total is not None and free < job.total - job.done:
        why = f"{(job.total - job.done) / 1e6:,.0f} MB wanted, {free / 1e6:,.0f} MB free"
        raise no_room(job.destination, why, errno.ENOSPC)


def _copy(job: _Job, answer: Answer) -> None:
    """Write the body. Stops soon after `total`."""
    assert job.part is not None
    while job.total is None or job.done <= job.total:
        try:  # what there is at once, so that little is lost when it breaks
            block = answer.body.read1(BLOCK)  # type: ignore[attr-defined]
        except (OSError, http.client.HTTPException) as error:
            raise Again(f"the connection broke after {job.done} bytes ({why(error)})") from error
        if not block:
            break
        with writing(job.destination):
            job.part.write(block)
        if job.progress is not None:
            job.progress(job.done, job.total)
    if answer.size is not None and job.done < answer.size:
        raise Again(f"the connection broke after {job.done} of {answer.size} bytes")


def _verified(job: _Job) -> str:
    """The sha256 of what has arrived, which is now the file."""
    part = job.part
    assert part is not None
    digest = part.sha256.hexdigest()
    wrong = ""
    if part.size == 0 or job.total not in (None, part.size):
        wrong = f"{job.url} holds {part.size} bytes, not {job.total or 'a file'}"
    elif job.md5 and part.md5.hexdigest() != job.md5:
        wrong = f"{job.url}: md5 is {part.md5.hexdigest()}, not {job.md5}"
    for wanted in (job.sha256, job.stated):
        if not digest.startswith(wanted):
            wrong = wrong or f"{job.url}: sha256 is {digest}, not {wanted}"
    if wrong and part.resumed:
        raise Restart  # the part that was there may be to blame
    if wrong:
        raise WeightsError(wrong, NOT_KEPT)
    try:
        with writing(job.destination):
            part.become(job.destination)
    finally:
        part.drop()
        job.part = None
    return digest
