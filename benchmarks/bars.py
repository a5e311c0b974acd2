"""Every bar in one table: what was measured last, beside what is wanted.

Collects what the benchmarks have kept in results/*.json; nothing is written by hand. A benchmark
keeps the bar that it was run with: where a stricter one is wanted since, STRICTER has it. Of
several results of one name the newest counts. `--run` measures the cheap ones now, which takes a
minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import again, input, measure, solver_sizes, startup, training

RESULTS = Path(__file__).parent / "results"
ROOT = RESULTS.parents[1]
NOT_MEASURED = "not measured"


class Cheap(NamedTuple):
    name: str
    wanted: float
    value: Callable[[], float]


def cpu_of(*words: str) -> float:
    """Return CPU seconds of a command, the least of five."""
    command = measure.python(*words)
    return min(measure.run(command).cpu for _ in range(5))


def lines() -> int:
    return sum(len(path.read_text().splitlines()) for path in (ROOT / "zoo").rglob("*.py"))


# All at most.
CHEAP = (
    Cheap("CPU s of zoo --help", 0.12, lambda: cpu_of("-m", "zoo", "--help")),
    Cheap("CPU s of zoo list", 0.12, lambda: cpu_of("-m", "zoo", "list")),
    Cheap(
        "CPU s of `import zoo`, Python's start with it",
        0.05,
        lambda: cpu_of("-c", "import zoo"),
    ),
    Cheap("lines of README", 150, lambda: len((ROOT / "README.md").read_text().splitlines())),
    Cheap("lines of zoo/*.py", 23_500, lines),
)
# By name: what is wanted since, at most.
STRICTER = {one.name: one.wanted for one in CHEAP}
# What is wanted and may have no result yet.
OPEN = (
    ("default suite, s on two quiet cores", "at most 300"),
    ("base install, GB", "at most 0.6"),
    ("opening a cache of 10,000,000 keys, s", "at most 0.5"),
)
# The same of speed; those in bf16 need a processor that has it.
SPEED = (
    ("(bare pass + decode) / zoo finetune, fp32", "at least 0.92"),
    ("zoo finetune / (1.5 x (bare pass + decode) + 1.2 s), bf16", "at most 1"),
    ("nothing kept, s more, fp32", "at most 1.5"),
    ("second zoo finetune, s, fp32", "at most 1.3"),
    (f"second zoo finetune of 20,000 photos x {again.WIDTH}, s", f"at most {again.MOST:g}"),
    *(
        (f"choose and solve {size}, {what}", f"at most {most:g}")
        for size in solver_sizes.SIZES.values()
        for what, most in size.bars.items()
    ),
    ("choose and solve 1,000,000 x 512 x 100 from a job, s", "at most 180"),
    ("(bare engine + decode) / zoo predict, fp32", "at least 0.95"),
    ("(bare engine + decode) / zoo predict, bf16", "at least 0.9"),
    ("(bare engine + decode) / zoo predict, int8", "at least 0.85"),
    ("naive loop / zoo predict, phone photos, bf16", "at least 6"),
    ("decode and resize 500 x 375, times quicker than two resizes", f"at least {input.QUICKER:g}"),
    ("decode and resize: largest difference of 255", "at most 1"),
    *((f"CPU s of {name}", f"at most {most:g}") for name, most in startup.BARS.items()),
    *((f"timm / zoo, {pair.name}, E=1, wall s", "at least 1") for pair in training.PAIRS),
    ("torch loop / zoo train, s an epoch", "at least 1"),
)


def kept() -> Iterator[dict[str, Any]]:
    """Yield the newest bar of each name that the benchmarks have kept, with its file.

    The tables of speed have taken some over: those are told from their own benchmark.
    """
    rows: dict[str, tuple[tuple[bool, str], dict[str, Any]]] = {}
    for file in sorted(RESULTS.glob("*.json")):
        if file.stem != "bars":
            result = json.loads(file.read_text())
            machine = result.get("machine")
            when = machine.get("date", "") if isinstance(machine, dict) else ""
            rank = (not file.stem.startswith("speed"), when)
            for one in found(result):
                name = one["what"]
                if name not in rows or rank >= rows[name][0]:
                    rows[name] = rank, {"from": f"{file.stem} {when[:10]}", **judged(one)}
    for _, row in rows.values():
        yield row


def found(value: object) -> Iterator[dict[str, Any]]:
    """Yield the records that `measure.verdict` has made, wherever they are in a result."""
    if isinstance(value, dict) and {"what", "value", "bar", "met"} <= value.keys():
        yield {key: value[key] for key in ("what", "value", "bar", "met")}
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from found(each)


def judged(one: dict[str, Any]) -> dict[str, Any]:
    """Return a bar by what is wanted now."""
    if one["what"] not in STRICTER:
        return one
    wanted = STRICTER[one["what"]]
    return {**one, "bar": f"at most {wanted:g}", "met": one["value"] <= wanted}


def value(row: dict[str, Any]) -> str:
    return "" if row["value"] is None else f"{row['value']:.4g}"


def main() -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--run", action="store_true", help="measure the cheap ones now")
    options = parser.parse_args()
    rows = list(kept())
    if options.run:
        now = {
            one.name: measure.verdict(one.name, one.value(), one.wanted, at_most=True)
            for one in CHEAP
        }
        rows = [row for row in rows if row["what"] not in now]
        rows += [{"from": "now", **one} for one in now.values()]
    known = {row["what"] for row in rows}
    missing = [(one.name, f"at most {one.wanted:g}") for one in CHEAP if one.name not in known]
    wanted = {**dict(missing), **dict(SPEED), **dict(OPEN)}
    for what, bar in ((what, bar) for what, bar in wanted.items() if what not in known):
        rows.append({"from": "", "what": what, "value": None, "bar": bar, "met": None})
    said = {True: "met", False: "MISSED", None: NOT_MEASURED}
    shown = [[row["what"], value(row), row["bar"], said[row["met"]], row["from"]] for row in rows]
    measure.show(shown, ("", "measured", "wanted", "", "from"))
    count = {word: sum(said[row["met"]] == word for row in rows) for word in said.values()}
    print(", ".join(f"{number} {word}" for word, number in count.items()))
    measure.save("bars", measure.machine(), {"bars": rows, "count": count})


if __name__ == "__main__":
    main()
