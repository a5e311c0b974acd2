"""The tables of docs/speed.md, made from what the benchmarks have measured; no number by hand."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import RESULTS
from benchmarks.speed_table import Rows

# Ratios with what people use instead; other rows of the benchmark are about this code alone.
_PEERS = re.compile(r"(tutorial loop|timm|naive loop)\b.* / zoo (finetune|predict)\b.*")
QUICK, OURS, INPUT, SMALL, SIZES = (
    RESULTS / f"{name}.json"
    for name in ("speed-quick", "speed-ours", "input", "small", "solver_sizes")
)
NOT_YET = "Not measured here."
ROUNDS = 3  # of a ratio that is published
TOO_FEW = f"Of fewer than {ROUNDS} rounds no ratio is published."
_WORDS = (
    ("E=5, wall s", "5 epochs, whole process"),
    ("E=1, wall s", "1 epoch, whole process"),
    ("s an epoch", "each epoch alone"),
    ("all of it", "every stage trained"),
    ("behind layer3, kept", "layer4 trained on kept features"),
    ("behind layer3, anew", "layer4 trained, features computed anew"),
)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def full() -> str:
    """Return medians of whole processes, and ratios to what one would use instead."""
    return _speed(results("speed"))


def quick() -> str:
    """Return the same of `--quick`, which has fewer photos and epochs."""
    if not QUICK.exists():
        return NOT_YET
    return _speed(json.loads(QUICK.read_text()))


def _speed(found: dict[str, Any]) -> str:
    rows = Rows(found["rows"])
    shown = []
    for part in dict.fromkeys(row["part"] for row in rows.all):
        jobs = [who for who in rows.jobs(part) if not who.startswith(("bare", "decode"))]
        for who in sorted(jobs, key=lambda who: -statistics.median(rows.walls(part, who))):
            each = rows.of(part, who)
            values = [row["wall"] for row in each]
            spread = f"{seconds(min(values))} to {seconds(max(values))}, n {len(values)}"
            spent = seconds(statistics.median(row["cpu"] for row in each))
            shown.append((part, who, seconds(statistics.median(values)), spread, spent))
    header = ("job", "who", "seconds, median", "from, to", "CPU seconds")
    ratios = [bar for bar in found["bars"] if _PEERS.fullmatch(bar["what"]) and "ours" in bar]
    enough = [
        (ratio["what"], *measured(ratio), ratio["theirs"], ratio["ours"])
        for ratio in ratios
        if ratio["n"] >= ROUNDS
    ]
    names = ("times quicker", "median (from, to)", "at most here", "the other", "zoo")
    told = [markdown(names, enough)] if enough else []
    told += [TOO_FEW] if len(enough) < len(ratios) else []
    if left_out := found.get("left_out"):
        told.append(f"Left out: {'; '.join(left_out)}.")
    return "\n\n".join((machine(found), *told, markdown(header, shown)))


def ours() -> str:
    """Return what zoo reaches of its own limits, without peers."""
    if not OURS.exists():
        return NOT_YET
    found = json.loads(OURS.read_text())
    rows = [
        (bar["what"], measured(bar)[0], bar["bar"], "met" if bar["met"] else "not met")
        for bar in found["bars"]
    ]
    return machine(found) + "\n\n" + markdown(("", "median (from, to)", "wanted", ""), rows)


def sizes() -> str:
    """Return what choosing a penalty and solving takes, by the size of the rows."""
    if not SIZES.exists():
        return NOT_YET
    found = json.loads(SIZES.read_text())["sizes"]
    rows = [
        (size, who, *(spread_of(each[who][what]) for what in ("s", "CPU s", "GB")))
        for size, each in found.items()
        for who in ("zoo", "scikit-learn")
        if who in each
    ]
    names = ("rows x columns x classes", "", "seconds", "CPU seconds", "GB at most")
    return machine(next(iter(found.values()))) + "\n\n" + markdown(names, rows)


def spread_of(each: dict[str, Any]) -> str:
    return f"{each['median']:.3g} ({each['min']:.3g} to {each['max']:.3g}, n {each['n']})"


def machine(found: dict[str, Any]) -> str:
    """Return where and when it was measured, and on how much."""
    about, settings = found["machine"], found.get("settings", {})
    sizes = {
        "train, val": "{} + {} photos", "phone": "{} phone photos", "epochs": "{} epochs",
    }  # fmt: skip
    told = [
        text.format(*(value if isinstance(value, list) else [value]))
        for name, text in sizes.items()
        if (value := settings.get(name)) is not None
    ]
    there = f"{about['cpu']}, {about['cores']} cores, torch {about['torch']}, {about['date']}"
    return "; ".join([there, *told]) + "."


def in_words(what: str) -> str:
    """Return what a ratio is of, for a reader who does not know the benchmark."""
    for short, long in _WORDS:
        what = what.replace(short, long)
    return what


def measured(bar: dict[str, Any]) -> tuple[str, str]:
    """Return the median with what it lies between, and the same ratio if zoo did its least."""
    most = f"{bar['ceiling']:.3g}" if "ceiling" in bar else ""
    if bar.get("n", 1) == 1:
        return f"{bar['value']:.3g}", most
    return f"{bar['value']:.3g} ({bar['min']:.3g} to {bar['max']:.3g}, n {bar['n']})", most


def seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


# Where the seconds go.


def profile() -> str:
    """Return the parts of each job's seconds, of zoo alone where that was measured."""
    found = json.loads(OURS.read_text()) if OURS.exists() else results("speed")
    rows = Rows(found["rows"])
    shown = [row for precision in ("fp32", "bf16") for row in _tuned(rows, precision)]
    for part in ("predict", "phone"):
        for precision in ("fp32", "bf16", "int8"):
            shown += _predicted(rows, part, precision)
    header = ("job", "whole", "forward passes", "decoding", "a second run", "what is left")
    return machine(found) + "\n\n" + markdown(header, shown)


def _tuned(rows: Rows, precision: str) -> list[tuple[str, ...]]:
    """Return the rows of a frozen fine-tune; a second run is start-up, listing, head, report."""
    whole, again = (
        _middle(rows.walls("finetune", f"zoo {precision}{name}")) for name in ("", ", again")
    )
    bare = rows.of("finetune", f"bare {precision}")
    if whole is None or again is None or not bare:
        return []
    forward = statistics.median(min(p["wall"] for p in row["passes"]) for row in bare)
    decode = statistics.median(row["decode"] for row in bare)
    parts = [whole, forward, decode, again, whole - forward - decode - again]
    found = [(f"finetune, frozen, {precision}", *map(seconds, parts))]
    nothing = _middle(rows.walls("finetune", f"zoo {precision}, nothing kept"))
    if nothing is not None:
        parts = [nothing, *parts[1:4], nothing - sum(parts[1:4])]
        found.append((f"… nothing kept, {precision}", *map(seconds, parts)))
    return found


def _predicted(rows: Rows, part: str, precision: str) -> list[tuple[str, ...]]:
    ours, bare = rows.of(part, f"zoo {precision}"), rows.of(part, f"bare {precision}")
    decoded = rows.of(part, "decode")
    if not (ours and bare and decoded):
        return []
    rate = statistics.median(statistics.median(row["images_per_second"]) for row in bare)
    forward = ours[0]["photos"] / rate
    decode = statistics.median(row["decode"] for row in decoded)
    whole = statistics.median(row["wall"] for row in ours)
    left = seconds(whole - forward - decode)
    return [(f"{part}, {precision}", *map(seconds, (whole, forward, decode)), "-", left)]


def _middle(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def training() -> str:
    """Return what one epoch takes as a process beside what an epoch takes inside, for both."""
    files = (RESULTS / f"{name}.json" for name in ("training-some", "training"))
    return "\n\n".join(_trained(json.loads(file.read_text())) for file in files if file.exists())


def _trained(found: dict[str, Any]) -> str:
    shown = []
    for name, figures in found["jobs"].items():
        cells = []
        for who in ("zoo", "timm"):
            whole, epoch = (figures[key][who]["median"] for key in ("E=1, wall s", "s an epoch"))
            cells += [seconds(whole), seconds(epoch), seconds(whole - epoch)]
        ratio = figures["E=1, wall s"]["timm / zoo"]
        told = spread_of(ratio) if ratio["n"] >= ROUNDS else ""
        shown.append((in_words(name), *cells, told))
    each = ("1 epoch, whole process", "an epoch", "start and end")
    header = ("training", *(f"{who}: {what}" for who in ("zoo", "timm") for what in each))
    header = (*header, "timm / zoo, 1 epoch")
    few = any(each["E=1, wall s"]["timm / zoo"]["n"] < ROUNDS for each in found["jobs"].values())
    told = [machine(found), markdown(header, shown), *([TOO_FEW] if few else [])]
    return "\n\n".join(told)


def small() -> str:
    """Return a small network's training beside a bare loop, and what the pipeline adds."""
    if not SMALL.exists():
        return NOT_YET
    found = json.loads(SMALL.read_text())
    rows = [
        (name, *(seconds(each[who]["median"]) for who in ("zoo", "torch loop")),
         _times(each["loop / zoo"]))
        for name, each in found["training"].items()
    ]  # fmt: skip
    spent = {
        who: statistics.median(one[who] for one in found["microseconds"])
        for who in found["microseconds"][0]
    }
    told = ", ".join(f"{who} {value:.0f}" for who, value in spent.items())
    table = markdown(("LeNet on MNIST", "zoo", "torch loop", "loop / zoo"), rows)
    return f"{machine(found)}\n\n{table}\n\nMicroseconds of CPU a picture: {told}."


def decoding() -> str:
    """Return how quick photos are decoded and resized, and what was decided by that."""
    if not INPUT.exists():
        return NOT_YET
    found = json.loads(INPUT.read_text())
    rates = [
        (row["photo"], *(f"{row['ms'][way]:.2f}" for way in row["ms"]), _times(row["zoo"]),
         _times(row["Pillow alone"]), f"{row['most']}, in {100 * row['differ']:.2g} %")
        for row in found["rates"]
    ]  # fmt: skip
    ways = [f"{way}, CPU ms" for way in found["rates"][0]["ms"]]
    header = ("photo", *ways, "zoo is quicker by", "at most", "largest difference of 255")
    keeps = [
        (f"{row['keep']:g} times", f"1/{row['scale']}", f"{row['ms']:.1f}", f"{row['mean']:.3f}",
         f"{row['most']:.3f}")
        for row in found["keeps"]
    ]  # fmt: skip
    kept = ("stays at least", "scale", "CPU ms", "mean error of 255", "of a photo at most")
    threads = [
        (f"{row['share']:.0%}", *(_spread(row[how]) for how in ("shared", "own thread")))
        for row in found["threads"]
    ]
    shared = ("decoding's share of the work", "each worker decodes, s", "a thread of its own, s")
    tables = markdown(header, rates), markdown(kept, keeps), markdown(shared, threads)
    return "\n\n".join((machine(found), *tables))


def _times(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _spread(values: Sequence[float]) -> str:
    return (
        f"{seconds(statistics.median(values))} ({seconds(min(values))} to {seconds(max(values))})"
    )
