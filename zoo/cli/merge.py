"""zoo merge: the parts of a job as one file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from zoo.cli.console import Screen, talk
from zoo.cli.options import argument, force, options, output, shared
from zoo.text import count


@dataclass(frozen=True)
class Flags:
    job: str = argument("The folder of a job, or s3://BUCKET/PREFIX, as `zoo plan` has made it.")
    output: Path | None = output(
        "File to write: .csv, .jsonl or .parquet; of features .parquet, .csv or .npz. Default: CSV "
        "on stdout."
    )
    csv_safe: bool = shared("csv_safe")
    force: bool = force()


@options
def command(flags: Flags) -> None:
    """Write all rows of a job in the plan's order, as `zoo predict` or `zoo embed` does.

    The exit code is 8 where a part is missing or damaged, and the file does not appear.
    """
    from zoo.predict import embedding_files, writers
    from zoo.scale import answers, parts, plan

    shards = plan.opened(flags.job)
    about = shards.plan
    features = about.settings.what == "features"
    writers.check(flags.output, embedding_files.SUFFIXES if features else writers.SUFFIXES)
    writers.check_safe(flags.csv_safe, flags.output)
    with Screen() as screen:
        rows = screen.counting("rows", parts.merged(shards), about.photos)
        if features:
            named = (answers.embedding(row) for row in rows)
            width, safe = about.settings.width, flags.csv_safe
            embedding_files.write(named, flags.output, width, sys.stdout, safe)
        else:
            form = answers.form_of(about.settings, flags.csv_safe)
            writers.write_rows(rows, flags.output, sys.stdout, form)
    where = f" in {flags.output}" if flags.output else ""
    talk(count(about.photos, "row") + where)
