"""What became of all rows, in a few lines: how many of which status, and why some are errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.cli.console import Screen, talk
from zoo.errors import DataError
from zoo.text import count, printable

if TYPE_CHECKING:
    from zoo.predict import inputs
    from zoo.predict.embed import Embedding
    from zoo.predict.policy import Policy
    from zoo.predict.rows import Prediction

REASONS, SHOWN = 1000, 3  # why rows are errors: so many are counted, so many are shown
Row = TypeVar("Row", bound="Prediction | Embedding | dict[str, Any]")


class Tally:
    """How many rows have which status, and the reasons of those that are errors."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def counting(self, rows: Iterable[Row], total: int | None, screen: Screen) -> Iterator[Row]:
        """Return the same rows, counted as they go by."""
        for done, row in enumerate(rows, start=1):
            if isinstance(row, dict):  # of a job
                status, error = row["status"], row["error"]
            else:
                status, error = row.status, row.error
            self.statuses[status] += 1
            if error and (error in self.reasons or len(self.reasons) < REASONS):
                self.reasons[error] += 1
            yield row
            screen.progress("pictures", done, total)

    def show(
        self, target: str, found: inputs.Inputs, output: Path | None, asked: Policy | None = None
    ) -> None:
        """Say how many rows there are and what has none. Raises DataError where there is no row."""
        rows, errors = self.statuses.total(), self.statuses["error"]
        if not rows:
            raise DataError(f"{target} names no pictures", "give one path a line")
        about = [count(rows, "row") + (f" in {output}" if output else "") + errors_among(errors)]
        if asked and asked.below:
            about.append(f"{self.statuses['rejected']:,} rejected (below {asked.below:g})")
        if asked and asked.unknown:
            further = f"(further than {asked.unknown.limit:.4g})"
            about.append(f"{self.statuses['unknown']:,} unknown {further}")
        talk(", ".join(about))
        show_left_out(found)
        for reason, many in self.reasons.most_common(SHOWN):
            talk(f"  {count(many, 'error')}: {reason}")
            errors -= many
        if errors:
            talk(f"  {count(errors, 'error')} for other reasons, in the column `error`")


def errors_among(many: int) -> str:
    """Return `, 3 of them errors`; nothing where there are none."""
    return f", {many:,} of them {'an error' if many == 1 else 'errors'}" if many else ""


def show_left_out(found: inputs.Inputs) -> None:
    """Say what is in a folder and has no row, and what could not be looked into."""
    from zoo.data.ignored import told

    if skipped := found.skipped:
        names = ", ".join(printable(name) for name in skipped[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        many = count(len(skipped), "file is no picture and has", "files are no pictures and have")
        talk(f"{many} no row: {names}{more}")
    if left := told(found.passed):
        talk(f"left out: {left}")
    for folder, reason in found.closed[:5]:
        talk(f"warning: the folder {folder} cannot be listed: {reason}; it is one error row")
    if more_folders := found.closed[5:]:
        talk(f"warning: {count(len(more_folders), 'more folder')} cannot be listed")
