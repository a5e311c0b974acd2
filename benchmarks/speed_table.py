"""What the rows of `benchmarks.speed` amount to: seconds, ratios beside the bars, and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import median, numbers, show, verdict
from benchmarks.startup import BARS

# Files whose bars are taken over as they are.
OTHERS = ("export", "engines", "input", "scale", "training")
LOOP = "tutorial loop, all epochs"
Bar = dict[str, Any]


class Rows:
    """The rows by part and job, in the order of their rounds."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.all = sorted(rows, key=lambda row: row["round"])

    def of(self, part: str, who: str) -> list[dict[str, Any]]:
        return [row for row in self.all if (row["part"], row["who"]) == (part, who)]

    def walls(self, part: str, who: str) -> list[float]:
        return [row["wall"] for row in self.of(part, who)]

    def jobs(self, part: str) -> list[str]:
        return list(dict.fromkeys(row["who"] for row in self.all if row["part"] == part))

    def fastest(self, part: str, ending: str | tuple[str, ...] = "") -> str | None:
        """The quickest of the peers: neither ours, nor what is only a part of a job."""
        ours = ("zoo", "bare", "decode", "naive")
        found = {
            who: median(self.walls(part, who))
            for who in self.jobs(part)
            if who.endswith(ending) and not who.startswith(ours)
        }
        return min(found, key=lambda who: found[who]) if found else None


def table(found: dict[str, Any], results: Path) -> list[Bar]:
    """Prints everything; results: the folder with what the other benchmarks have measured."""
    rows = Rows(found["rows"])
    for part in dict.fromkeys(row["part"] for row in rows.all):
        lines = [
            [who, *numbers(values), f"{median([row['cpu'] for row in rows.of(part, who)]):.1f}"]
            for who in rows.jobs(part)
            for values in [rows.walls(part, who)]
        ]
        lines.sort(key=lambda line: -float(line[2]))
        show(lines, [f"{part}: whole process, s", "min", "median", "max", "n", "CPU s"])
        print()
    bars = [*tuning(rows), *predicting(rows), *phones(rows), *startup(results)]
    for name in OTHERS:
        bars += taken_over(results / f"{name}.json")
    missed = [bar["what"] for bar in bars if not bar["met"]]
    print(f"\n{len(bars) - len(missed)} of {len(bars)} bars met")
    return bars


def against(what: str, values: Sequence[float], bar: float, *, at_most: bool) -> list[Bar]:
    """The median beside the bar, with what it lies between; nothing where nothing was measured."""
    if not values:
        return []
    low, high = min(values), max(values)
    name = f"{what} ({low:.3g} to {high:.3g}, n {len(values)})"
    record = verdict(name, median(values), bar, at_most=at_most)
    more = {"what": what, "min": round(low, 4), "max": round(high, 4), "n": len(values)}
    return [{**record, **more}]


def over(slow: Sequence[float], quick: Sequence[float]) -> list[float]:
    """A ratio for each round that has both: what was measured one after the other."""
    return [one / other for one, other in zip(slow, quick, strict=False)]


def tuning(rows: Rows) -> list[Bar]:
    """Frozen fine-tunes: beside the loop and the peers, each with the most that could be.

    The ceiling of a ratio is the same with (bare pass + decode) in the place of our seconds.
    """
    bars: list[Bar] = []
    fastest = rows.fastest("finetune", ("one epoch", "one epoch, best settings"))
    for precision in ("fp32", "bf16"):
        ours = rows.walls("finetune", f"zoo {precision}")
        needed = [bare + decode for bare, decode in passes(rows, f"bare {precision}")]
        for loop in (LOOP, f"{LOOP}, best settings"):
            theirs = rows.walls("finetune", loop)
            bars += beside(f"{loop} / zoo finetune, {precision}", theirs, ours, needed)
        if fastest:
            theirs = rows.walls("finetune", fastest)
            name = f"{fastest} / zoo finetune, all epochs, {precision}"
            bars += beside(name, theirs, ours, needed, 1)
        if precision == "fp32":
            name = "(bare pass + decode) / zoo finetune, fp32"
            bars += against(name, over(needed, ours), 0.92, at_most=False)
        else:
            most = [1.5 * seconds + 1.2 for seconds in needed]
            name = "zoo finetune / (1.5 x (bare pass + decode) + 1.2 s), bf16"
            bars += against(name, over(ours, most), 1, at_most=True)
        more = [bare + decode for bare, decode in passes(rows, f"bare {precision}, large")]
        large = rows.walls("finetune", f"zoo {precision}, large")
        name = f"zoo finetune / (1.1 x (bare pass + decode) + 1.5 s), more photos, {precision}"
        bars += against(name, over(large, [1.1 * s + 1.5 for s in more]), 1, at_most=True)
        cold = [slow - quick for slow, quick in paired(rows, f"zoo {precision}")]
        bars += against(f"nothing kept, s more, {precision}", cold, 1.5, at_most=True)
        again = rows.walls("finetune", f"zoo {precision}, again")
        bars += against(f"second zoo finetune, s, {precision}", again, 1.3, at_most=True)
    return bars


def paired(rows: Rows, who: str) -> list[tuple[float, float]]:
    """Seconds with nothing kept and with the network kept, a round."""
    slow = rows.walls("finetune", f"{who}, nothing kept")
    return list(zip(slow, rows.walls("finetune", who), strict=False))


def beside(
    what: str,
    theirs: Sequence[float],
    ours: Sequence[float],
    needed: Sequence[float],
    bar: float = 1,
) -> list[Bar]:
    """A ratio with its ceiling in the same rounds: what it would be if nothing but `needed` were.

    Both sides' seconds are told beside it.
    """
    found = against(what, over(theirs, ours), bar, at_most=False)
    if found and needed:
        found[0]["ceiling"] = round(median(over(theirs, needed)), 2)
        print(f"        its ceiling here: {found[0]['ceiling']:.3g}")
    for record in found:
        record |= {"theirs": spread(theirs), "ours": spread(ours)}
    return found


def spread(values: Sequence[float]) -> str:
    """Seconds: the median, and what it lies between."""
    return f"{median(values):.3g} s ({min(values):.3g} to {max(values):.3g}, n {len(values)})"


def passes(rows: Rows, who: str) -> list[tuple[float, float]]:
    """Seconds of the quicker bare pass and of decoding, a round."""
    return [
        (min(one["wall"] for one in row["passes"]), row["decode"])
        for row in rows.of("finetune", who)
    ]


def predicting(rows: Rows) -> list[Bar]:
    bars: list[Bar] = []
    peers = (rows.fastest("predict"), "naive loop", "naive loop, best settings")
    decode = [row["decode"] for row in rows.of("predict", "decode")]
    for precision, at_least in (("fp32", 0.95), ("bf16", 0.9), ("int8", 0.85)):
        ours = rows.walls("predict", f"zoo {precision}")
        count = [row["photos"] for row in rows.of("predict", f"zoo {precision}")]
        rates = engine_rates(rows, "predict", precision)
        forward = over(count, rates)
        needed = (
            [sum(pair) for pair in zip(forward, stretched(decode, forward), strict=True)]
            if decode
            else []
        )
        for who in filter(None, peers):
            theirs = rows.walls("predict", who)
            bars += beside(f"{who} / zoo predict, {precision}", theirs, ours, needed)
        name = f"(bare engine + decode) / zoo predict, {precision}"
        bars += against(name, over(needed, ours), at_least, at_most=False)
    return bars


def engine_rates(rows: Rows, part: str, precision: str) -> list[float]:
    """Images/s of the engine alone, a round."""
    return [median(row["images_per_second"]) for row in rows.of(part, f"bare {precision}")]


def phones(rows: Rows) -> list[Bar]:
    """On a CPU decoding and forward passes share the cores: their sum is the limit there."""
    bars: list[Bar] = []
    decode = rows.of("phone", "decode")
    seconds = [row["decode"] for row in decode]
    for precision in ("fp32", "bf16"):
        ours = rows.walls("phone", f"zoo {precision}")
        rates = engine_rates(rows, "phone", precision)
        if not (rates and decode and ours):
            continue
        forward = [decode[0]["photos"] / rate for rate in rates]
        needed = [sum(pair) for pair in zip(seconds, stretched(forward, seconds), strict=True)]
        for who in ("naive loop", "naive loop, best settings"):
            name = f"{who} / zoo predict, phone photos, {precision}"
            bar = 6 if (who, precision) == ("naive loop", "bf16") else 1
            bars += beside(name, rows.walls("phone", who), ours, needed, bar)
        name = f"(decode + forward) / zoo predict, phone photos, {precision}"
        bars += against(name, over(needed, ours), 0.9, at_most=False)
    error = [row["pixel_error"] for row in decode]
    bars += against("mean pixel error of 255, phone photos", error, 0.2, at_most=True)
    return bars


def stretched(values: Sequence[float], other: Sequence[float]) -> list[float]:
    """As many as the others; the last one again."""
    return [values[min(k, len(values) - 1)] for k in range(len(other))]


def startup(results: Path) -> list[Bar]:
    path = results / "startup.json"
    if not path.exists():
        return []
    seconds = json.loads(path.read_text())["cpu_seconds"]
    return [
        bar
        for name, most in BARS.items()
        if name in seconds
        for bar in against(f"CPU s of {name}", seconds[name]["all"], most, at_most=True)
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
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rows = Rows(found["rows"])
    parts = list(dict.fromkeys(row["part"] for row in rows.all))
    if not parts:
        return
    jobs = {part: [w for w in rows.jobs(part) if not w.startswith(("bare", "decode"))]
            for part in parts}  # fmt: skip
    heights = [len(jobs[part]) + 1.5 for part in parts]
    figure, panels = plt.subplots(
        len(parts), 1, figsize=(8, 0.3 * sum(heights)), height_ratios=heights,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for part, panel in zip(parts, panels[:, 0], strict=True):
        seconds = {who: rows.walls(part, who) for who in jobs[part]}
        names = sorted(jobs[part], key=lambda who: median(seconds[who]))
        medians = [median(seconds[who]) for who in names]
        colours = ["tab:blue" if who.startswith("zoo") else "tab:grey" for who in names]
        low = [value - min(seconds[who]) for value, who in zip(medians, names, strict=True)]
        high = [max(seconds[who]) - value for value, who in zip(medians, names, strict=True)]
        for name, *point in zip(names, medians, low, high, colours, strict=True):
            value, below, above, colour = point
            panel.errorbar(value, name, xerr=([below], [above]), fmt="o", color=colour, capsize=3)
            panel.annotate(f"{value:.3g} s", (value, name), (6, 3), textcoords="offset points",
                           fontsize=7, color=colour)  # fmt: skip
        panel.set_xscale("log")
        panel.set_title(f"{part}: whole process", fontsize=9, loc="left")
        panel.margins(x=0.15)
        panel.grid(axis="x", which="both", alpha=0.3)
        panel.tick_params(labelsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
