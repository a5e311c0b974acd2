"""What the rows of `benchmarks.speed` amount to: seconds, ratios beside the bars, and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from operator import sub, truediv
from pathlib import Path
from typing import Any

from benchmarks.measure import median, numbers, show, verdict
from benchmarks.startup import BARS
from zoo.report.figure import figure_in

# Files whose bars are taken over as they are.
OTHERS = ("export", "engines", "input", "scale", "training")
LOOP = "tutorial loop, all epochs"
FEW = 200  # photos to train on, below which a start-up is a large part of everything
Bar = dict[str, Any]
Series = dict[int, float]  # by round


class Rows:
    """The rows by part and job, in the order of their rounds."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.all = sorted(rows, key=lambda row: row["round"])

    def of(self, part: str, who: str) -> list[dict[str, Any]]:
        return [row for row in self.all if (row["part"], row["who"]) == (part, who)]

    def walls(self, part: str, who: str) -> list[float]:
        return [row["wall"] for row in self.of(part, who)]

    def series(self, part: str, who: str, key: str = "wall") -> Series:
        return {row["round"]: row[key] for row in self.of(part, who)}

    def jobs(self, part: str) -> list[str]:
        return list(dict.fromkeys(row["who"] for row in self.all if row["part"] == part))

    def fastest(self, part: str, ending: str | tuple[str, ...] = "") -> str | None:
        """The quickest of the peers: neither ours, nor what is only a part of a job."""
        ours = ("zoo", "bare", "decode", "naive", "tutorial")
        found = {
            who: median(self.walls(part, who))
            for who in self.jobs(part)
            if who.endswith(ending) and not who.startswith(ours)
        }
        return min(found, key=lambda who: found[who]) if found else None


def table(found: dict[str, Any], results: Path) -> list[Bar]:
    """Prints everything; results: the folder with what the other benchmarks have measured.

    Few photos are for ratios to peers: what the limits are told of is not judged by them.
    """
    rows, few = Rows(found["rows"]), found.get("settings", {}).get("train, val", [0])[0] < FEW
    for part in dict.fromkeys(row["part"] for row in rows.all):
        lines = [
            [who, *numbers(values), f"{median([row['cpu'] for row in rows.of(part, who)]):.1f}"]
            for who in rows.jobs(part)
            for values in [rows.walls(part, who)]
        ]
        lines.sort(key=lambda line: -float(line[2]))
        show(lines, [f"{part}: whole process, s", "min", "median", "max", "n", "CPU s"])
        print()
    bars = [*tuning(rows), *predicting(rows), *phones(rows)]
    if few:
        bars = [bar for bar in bars if "ours" in bar]
    elif any(row["who"] == LOOP for row in rows.all):  # the whole table has the others' bars too
        bars += startup(results)
        for name in OTHERS:
            bars += taken_over(results / f"{name}.json")
    compared = [bar for bar in bars if "ours" in bar]
    if compared:
        print()
        header = ["times quicker", "median", "from", "to", "n", "at most", "theirs", "ours"]
        show([cells(bar) for bar in compared], header)
    if "left_out" in found:
        print(f"left out here: {'; '.join(found['left_out'])}")
    missed = [bar["what"] for bar in bars if not bar["met"]]
    print(f"\n{len(bars) - len(missed)} of {len(bars)} bars met")
    return bars


def cells(bar: Bar) -> list[str]:
    most = f"{bar['ceiling']:.3g}" if "ceiling" in bar else ""
    numbers = [f"{bar[key]:.3g}" for key in ("value", "min", "max", "n")]
    return [bar["what"], *numbers, most, bar["theirs"], bar["ours"]]


def against(what: str, series: Series, bar: float, *, at_most: bool) -> list[Bar]:
    """The median beside the bar, with what it lies between; nothing where nothing was measured."""
    if not series:
        return []
    values = [*series.values()]
    low, high = min(values), max(values)
    name = f"{what} ({low:.3g} to {high:.3g}, n {len(values)})"
    record = verdict(name, median(values), bar, at_most=at_most)
    more = {"what": what, "min": round(low, 4), "max": round(high, 4), "n": len(values)}
    return [{**record, **more}]


def each(made: Callable[..., float], *series: Series) -> Series:
    """What a function makes of the rounds that all have."""
    rounds = sorted(set.intersection(*(set(one) for one in series)))
    return {number: made(*(one[number] for one in series)) for number in rounds}


def over(slow: Series, quick: Series) -> Series:
    """A ratio for each round that has both: what was measured one after the other."""
    return each(truediv, slow, quick)


def tuning(rows: Rows) -> list[Bar]:
    """Frozen fine-tunes: beside the loop and the peers, each with the most that could be.

    The ceiling of a ratio is the same with (bare pass + decode) in the place of our seconds.
    """
    bars: list[Bar] = []
    fastest = rows.fastest("finetune", ("one epoch", "one epoch, best settings"))
    for precision in ("fp32", "bf16"):
        who = f"zoo {precision}"
        ours, needed = rows.series("finetune", who), passes(rows, f"bare {precision}")
        for loop in (LOOP, f"{LOOP}, best settings"):
            theirs = rows.series("finetune", loop)
            bars += beside(f"{loop} / zoo finetune, {precision}", theirs, ours, needed)
        if fastest:
            theirs = rows.series("finetune", fastest)
            name = f"{fastest} / zoo finetune, all epochs, {precision}"
            bars += beside(name, theirs, ours, needed, 1)
        if precision == "fp32":
            name = "(bare pass + decode) / zoo finetune, fp32"
            bars += against(name, over(needed, ours), 0.92, at_most=False)
        else:
            most = {number: 1.5 * seconds + 1.2 for number, seconds in needed.items()}
            name = "zoo finetune / (1.5 x (bare pass + decode) + 1.2 s), bf16"
            bars += against(name, over(ours, most), 1, at_most=True)
        cold = each(sub, rows.series("finetune", f"{who}, nothing kept"), ours)
        bars += against(f"nothing kept, s more, {precision}", cold, 1.5, at_most=True)
        again = rows.series("finetune", f"{who}, again")
        bars += against(f"second zoo finetune, s, {precision}", again, 1.3, at_most=True)
    return bars


def beside(what: str, theirs: Series, ours: Series, needed: Series, bar: float = 1) -> list[Bar]:
    """A ratio with its ceiling in the same rounds: what it would be if nothing but `needed` were.

    Both sides' seconds are told beside it.
    """
    found = against(what, over(theirs, ours), bar, at_most=False)
    if found and (most := over(theirs, needed)):
        found[0]["ceiling"] = round(median([*most.values()]), 2)
    for record in found:
        record |= {"theirs": spread(theirs), "ours": spread(ours)}
    return found


def spread(series: Series) -> str:
    """Seconds: the median, and what it lies between."""
    values = [*series.values()]
    return f"{median(values):.3g} s ({min(values):.3g} to {max(values):.3g})"


def passes(rows: Rows, who: str) -> Series:
    """Seconds of the quicker bare pass and of decoding, a round."""
    return {
        row["round"]: min(one["wall"] for one in row["passes"]) + row["decode"]
        for row in rows.of("finetune", who)
    }


def predicting(rows: Rows) -> list[Bar]:
    """On a CPU decoding and forward passes share the cores: their sum is the limit there."""
    bars: list[Bar] = []
    peers = (rows.fastest("predict"), "naive loop", "naive loop, best settings")
    for precision, at_least in (("fp32", 0.95), ("bf16", 0.9), ("int8", 0.85)):
        ours, needed = rows.series("predict", f"zoo {precision}"), least(rows, "predict", precision)
        for who in filter(None, peers):
            theirs = rows.series("predict", who)
            bars += beside(f"{who} / zoo predict, {precision}", theirs, ours, needed)
        name = f"(bare engine + decode) / zoo predict, {precision}"
        bars += against(name, over(needed, ours), at_least, at_most=False)
    return bars


def least(rows: Rows, part: str, precision: str) -> Series:
    """Seconds of the photos by the engine alone, and of decoding them, a round."""
    decode = {row["round"]: row for row in rows.of(part, "decode")}
    bare = {row["round"]: median(row["images_per_second"])
            for row in rows.of(part, f"bare {precision}")}  # fmt: skip
    return {number: decode[number]["photos"] / bare[number] + decode[number]["decode"]
            for number in decode if number in bare}  # fmt: skip


def phones(rows: Rows) -> list[Bar]:
    bars: list[Bar] = []
    for precision in ("fp32", "bf16"):
        ours, needed = rows.series("phone", f"zoo {precision}"), least(rows, "phone", precision)
        for who in ("naive loop", "naive loop, best settings"):
            name = f"{who} / zoo predict, phone photos, {precision}"
            bar = 6 if (who, precision) == ("naive loop", "bf16") else 1
            bars += beside(name, rows.series("phone", who), ours, needed, bar)
        name = f"(decode + forward) / zoo predict, phone photos, {precision}"
        bars += against(name, over(needed, ours), 0.9, at_most=False)
    error = rows.series("phone", "decode", "pixel_error")
    bars += against("mean pixel error of 255, phone photos", error, 0.2, at_most=True)
    return bars


def startup(results: Path) -> list[Bar]:
    path = results / "startup.json"
    if not path.exists():
        return []
    seconds = json.loads(path.read_text())["cpu_seconds"]
    return [
        bar
        for name, most in BARS.items()
        if name in seconds
        for bar in against(
            f"CPU s of {name}", dict(enumerate(seconds[name]["all"])), most, at_most=True
        )
    ]


def taken_over(path: Path) -> list[Bar]:
    """The bars of another benchmark as it has judged them."""
    if not path.exists():
        return []
    bars: list[Bar] = json.loads(path.read_text()).get("bars", [])
    for bar in bars:
        print(f"{'met   ' if bar['met'] else 'MISSED'}  {bar['what']}: {bar['value']:.3g}, "
              f"bar: {bar['bar']}")  # fmt: skip
    return bars


def plot(found: dict[str, Any], path: Path) -> None:
    """Medians, with what they lie between, on a logarithmic axis; a panel for each part."""
    from matplotlib.ticker import LogLocator

    rows = Rows(found["rows"])
    parts = list(dict.fromkeys(row["part"] for row in rows.all))
    if not parts:
        return
    jobs = {part: [w for w in rows.jobs(part) if not w.startswith(("bare", "decode"))]
            for part in parts}  # fmt: skip
    heights = [len(jobs[part]) + 1.5 for part in parts]
    with figure_in(path, (8, 0.3 * sum(heights))) as figure:
        panels = figure.subplots(len(parts), 1, height_ratios=heights, squeeze=False)
        for part, panel in zip(parts, panels[:, 0], strict=True):
            seconds = {who: rows.walls(part, who) for who in jobs[part]}
            names = sorted(jobs[part], key=lambda who: median(seconds[who]))
            medians = [median(seconds[who]) for who in names]
            colours = ["tab:blue" if who.startswith("zoo") else "tab:grey" for who in names]
            low = [value - min(seconds[who]) for value, who in zip(medians, names, strict=True)]
            high = [max(seconds[who]) - value for value, who in zip(medians, names, strict=True)]
            for name, *point in zip(names, medians, low, high, colours, strict=True):
                value, below, above, colour = point
                panel.errorbar(
                    value, name, xerr=([below], [above]), fmt="o", color=colour, capsize=3
                )
                panel.annotate(f"{value:.3g} s", (value, name), (6, 3), textcoords="offset points",
                               fontsize=7, color=colour)  # fmt: skip
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.minorticks_off()
            panel.set_title(f"{part}: whole process", fontsize=9, loc="left")
            panel.margins(x=0.15, y=0.15)
            panel.grid(axis="x", alpha=0.3)
            panel.tick_params(labelsize=8)
