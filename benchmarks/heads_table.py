"""The table and the bars of `benchmarks.heads`, from its rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import show, verdict

Row = dict[str, Any]
Found = dict[str, Row]
COLUMNS = ("seeds", "last epoch %", "best epoch %", "wall s", "CPU s", "x cold CPU", "x full CPU")


def table(result: Row, jobs: Sequence[tuple[str, str]], ours: Sequence[str]) -> None:
    """Means over the seeds, then the bars; ours: zoo with an empty and with a full cache.

    Ratios are of CPU seconds: the machine has other work, and that changes wall seconds most.
    """
    found = {f"{model}, {photos}": every(result, model, photos, ours) for model, photos in jobs}
    for job, means in found.items():
        show([cells(who, one, means, ours) for who, one in means.items()], (job, *COLUMNS))
        print()
    print("~ extrapolated in a straight line from 1 and 3 epochs; - not timed or not run\n")
    own = [row["settings"] for row in result["rows"] if row["who"] in ours]
    if any(one != own[0] for one in own):
        print("zoo's rows are of different defaults: run `python -m benchmarks.heads ours` again\n")
    for job, means in found.items():
        judge(job, means, ours)


def every(result: Row, model: str, photos: str, ours: Sequence[str]) -> Found:
    """Means and deviations over the seeds of whoever did this job, zoo first."""
    groups: dict[str, list[Row]] = {who: [] for who in ours}
    for row in result["rows"]:
        if (row["model"], row["photos"]) == (model, photos):
            groups.setdefault(row["who"], []).append(row)
    means = {who: mean(rows) for who, rows in groups.items() if rows}
    for row in result["extrapolated"]:
        if (row["model"], row["photos"]) == (model, photos):
            for who, one in means.items():
                if who.startswith(row["who"]) and one["cpu"] is None:
                    one |= {"cpu": row["cpu"], "mark": "~"}
    return means


def mean(rows: Sequence[Row]) -> Row:
    """Accuracies in percent; last: what zoo keeps, where it says so. Seconds: of timed rows."""
    last = [100 * row["kept" if "kept" in row else "last"] for row in rows]
    best = [100 * row["best"] for row in rows]
    timed = [row for row in rows if row["cpu"] is not None]
    return {
        "seeds": len(rows),
        "last": statistics.mean(last),
        "last_sd": statistics.stdev(last) if len(rows) > 1 else 0.0,
        "best": statistics.mean(best),
        "best_sd": statistics.stdev(best) if len(rows) > 1 else 0.0,
        "wall": statistics.mean(row["wall"] for row in timed) if timed else None,
        "cpu": statistics.mean(row["cpu"] for row in timed) if timed else None,
        "mark": "",
    }


def cells(who: str, one: Row, means: Found, ours: Sequence[str]) -> list[str]:
    shown = [f"{one[name]:.1f} ± {one[name + '_sd']:.1f}" for name in ("last", "best")]
    spent = [one["mark"] + f"{one[name]:.1f}" if one[name] else "-" for name in ("wall", "cpu")]
    ratios = [
        f"{one['cpu'] / means[base]['cpu']:.2f}" if one["cpu"] and base in means else "-"
        for base in ours
    ]
    return [who, str(one["seeds"]), *shown, *spent, *ratios]


def judge(job: str, means: Found, ours: Sequence[str]) -> None:
    """Accuracy of what each keeps at the end against the best peer; time against each."""
    peers = {who: one for who, one in means.items() if who not in ours}
    mine = [base for base in ours if base in means]
    if not mine or not peers:
        return
    first = max(peers, key=lambda who: peers[who]["last"])
    name = f"{job}: accuracy of zoo, best peer {first}"
    ours_last, peer_last = (round(one["last"], 2) for one in (means[mine[0]], peers[first]))
    verdict(name, ours_last, peer_last, at_most=False)
    for who, one in peers.items():
        for base in mine:
            if one["cpu"]:
                share = means[base]["cpu"] / one["cpu"]
                verdict(f"{job}: CPU of {base} / {who}", share, 0.1, at_most=True)
