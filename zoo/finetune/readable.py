"""What the first look at the photos decides: which are left out, and whether to go on at all."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.data.index import DatasetIndex
from zoo.errors import DataError, RunError
from zoo.features.compute import Pass
from zoo.run import Run

UNREADABLE = 0.1  # share of the photos that may be left out without a word of the user's


def readable(index: DatasetIndex, bad: Mapping[str, str], skip: bool) -> DatasetIndex:
    """Return the index without the bad photos. skip: however many there are. Raises DataError."""
    rest = index.without(dict(bad))
    if not rest.of("val"):
        reason = next(iter(bad.values()))
        raise DataError(f"no photo for validation can be read ({reason})", "replace them")
    if not skip:
        check_readable(index, bad)
    return rest


def check_readable(index: DatasetIndex, bad: Mapping[str, str]) -> None:
    """Raise DataError where so many photos cannot be read that something is wrong with them."""
    if len(bad) <= UNREADABLE * len(index.samples):
        return
    names = "; ".join(f"{path}: {reason}" for path, reason in list(bad.items())[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    raise DataError(
        f"{len(bad)} of {len(index.samples)} photos cannot be read, more than "
        f"{100 * UNREADABLE:g} % ({names}{more})",
        "copy or convert them again, or train on the others with --skip-unreadable",
    )


def check_contents(index: DatasetIndex, found: Pass, before: Mapping[str, str], run: Run) -> None:
    """Raise RunError where a photo has not the content that it had when the run began.

    before: the digests of that time, in hex, by path; empty for a run that begins.
    """
    if not before:
        return
    now = {path: keys[0][:32].hex() for path, keys in found.keys.items()}
    inside = tuple(f"{path}#" for path, _ in index.containers)  # known by their files
    changed = [path for path, digest in before.items() if now.get(path) != digest]
    changed += [path for path in now if path not in before and not path.startswith(inside)]
    if changed:
        more = f", and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        raise RunError(
            f"{changed[0]} has other content than when {run.folder} began{more}",
            "put back what was there, or start a new run: cached features make it quick",
        )
