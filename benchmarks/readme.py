"""The tables of README and of the pages in docs/, made from the code and the benchmarks' results.

python -m benchmarks.readme                         rewrites them
python -m benchmarks.readme --check                 exit 1 where a page says something else
python -m benchmarks.readme --write --weights FILE  also runs the commands of all pages and writes
                                                    what they print into them; FILE has the ImageNet
                                                    weights of MobileNetV2, else those are random
python -m benchmarks.readme --write … heads.md      those of README and of the pages that are named
"""

from __future__ import annotations

import argparse
import ast
import re
import runpy
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from benchmarks import mutant_table, pages, speed_pages
from benchmarks.speed_pages import markdown, results
from zoo import extras
from zoo.cli.list_models import HEADER, cells, shelved
from zoo.recipe import table

ROOT = Path(__file__).parents[1]


def catalogue() -> str:
    rows = [row for _, shelf in shelved() for row in shelf]
    made = markdown(HEADER, [cells(row) for row in rows])
    return made + (
        "\n\nmemory: a forward pass of one picture in float32, parameters and activations. "
        "top-1, top-5, file, licence: of the weights that are used unless others are asked for."
    )


def settings() -> str:
    rows = []
    for name, one in table().items():
        rows.append((f"`{name}`", one.unless_given, one.about.replace("|", "\\|")))
    return markdown(("setting", "default", "what it is"), rows)


def transfer() -> str:
    rows = [
        (
            row["model"],
            f"{row['photos']} ({row['train']} + {row['val']})",
            f"{row['accuracy']:.1f} %",
            f"{row['probe']:.1f} %",
            f"{row['cold_s']:.1f} s",
            f"{row['warm_s']:.1f} s",
            f"{row['max_diff']:.0e}",
            row["agree"],
        )
        for row in results("accuracy")["transfer"]
    ]
    header = ("model", "photos (train + val)", "accuracy", "plain probe", "first run", "second run")
    return markdown((*header, "export: largest difference", "same class"), rows)


def imagenet() -> str:
    rows = [
        (
            row["model"],
            f"{row['hits']} of {row['photos']}",
            f"{row['top5']} of {row['photos']}",
            f"{row['seconds']:.1f} s",
        )
        for row in results("accuracy")["imagenet150"]
    ]
    return markdown(("model", "top-1 hits", "top-5 hits", "whole command"), rows)


def recipes() -> str:
    made = results("recipes")
    rows = [
        (
            f"`{row['recipe']}`" if " " not in row["recipe"] else row["recipe"],
            row["data"],
            score(row),
            str(row["epochs"]),
            f"{minutes(row['minutes'])} ({minutes(row['cpu_minutes'])})",
            f"`{row['command'].replace('recipes/', '').replace('.toml', '')}`",
        )
        for row in made["rows"]
    ]
    header = (
        "recipe",
        "data (pictures it is measured on)",
        "result",
        "epochs",
        "minutes (of CPU)",
        "command",
    )
    return markdown(header, rows) + f"\n\nMinutes: {made['machine']}, other work beside it."


def minutes(value: float) -> str:
    return f"{value:.1f}" if value >= 0.05 else "< 0.1"


def score(row: dict[str, Any]) -> str:
    """Accuracy, or the error of reconstructions beside that of principal components."""
    if row["metric"] == "accuracy":
        spread = row.get("members")
        members = f" (each {100 * min(spread):.2f} to {100 * max(spread):.2f})" if spread else ""
        return f"{100 * row['value']:.2f} %{members}"
    share = row["value"] / row["pca_mse"]
    return f"MSE {row['value']:.5f}, {share:.2f} of PCA's {row['pca_mse']:.5f}"


def heads() -> str:
    """Frozen fine-tunes beside the peers': means over the seeds."""
    from benchmarks.heads import COLD, JOBS, WARM
    from benchmarks.heads_table import every

    found, rows = results("heads"), []
    for model, photos in JOBS:
        for who, one in every(found, model, photos, (COLD, WARM)).items():
            spent = f"{one['mark']}{one['cpu']:.0f} s" if one["cpu"] else "-"
            sure = f" ± {one['last_sd']:.1f}" if one["seeds"] > 1 else ""
            last, best = f"{one['last']:.1f}{sure} %", f"{one['best']:.1f} %"
            rows.append((f"{model}, {photos}", who, str(one["seeds"]), last, best, spent))
    header = ("network, photos", "who", "seeds", "accuracy at the end", "best epoch on val", "CPU")
    return markdown(header, rows)


def views() -> str:
    """What views are worth: means over the seeds, of the default cut also over folds."""
    rows = []
    for row in results("views")["rows"]:
        folds = f"{100 * row['folds']:.1f} %" if row["folds"] is not None else "-"
        rows.append(
            (
                f"{row['model'].partition('/')[2]}, {row['photos']}",
                row["cut"],
                str(row["views"]),
                f"{row['computed']:,}",
                f"{100 * row['accuracy']:.1f} %",
                f"{row['loss']:.3f}",
                folds,
                f"{row['train_s']:.1f} s",
            )
        )
    header = ("network, photos", "cut", "views", "passes", "val", "val loss", "folds", "training")
    return markdown(header, rows)


def deeper() -> str:
    """Training on behind the head, beside the frozen head: means with their 95 % intervals."""
    found = results("deeper")
    rows = [
        (
            who,
            f"{100 * row['mean']:.1f} ± {100 * row['half']:.1f} %",
            ", ".join(f"{100 * value:.1f}" for value in row["accuracies"]),
            f"{row['cpu_s']:.0f} s",
        )
        for who, row in found["rows"].items()
    ]
    gains = [
        f"{bar['beside']} {100 * bar['gain']:.1f} ± {100 * bar['half']:.1f}"
        for bar in found["bars"]
    ]
    header = ("training", "accuracy, mean and 95 % interval", "each seed", "CPU")
    told = f"Points that head-then-all is better by, seed by seed: {'; '.join(gains)}."
    return markdown(header, rows) + "\n\n" + told


def doubt() -> str:
    """Unknown pictures that are found, and sets that hold the true class."""
    found = results("doubt")
    rows = []
    for row in found["rows"]:
        sets = [
            f"{100 * row['sets'][asked][0]:.1f} % ({row['sets'][asked][1]:.2f})"
            if asked in row["sets"]
            else "-"
            for asked in ("0.8", "0.9", "0.95")
        ]
        shares = (row["accuracy"], row["rate"], row["found"], row["found_probability"])
        accuracy, rate, caught, by_chance = (f"{100 * share:.1f} %" for share in shares)
        both = f"{row['auroc']:.3f} ({row['auroc_probability']:.3f})"
        name = f"{row['model'].partition('/')[2]}, {row['photos']}"
        rows.append((name, accuracy, both, f"{caught} ({by_chance})", rate, *sets))
    header = (
        "network, photos", "right", "AUROC", "unknown found", "known called unknown",
        "80 % sets", "90 % sets", "95 % sets",
    )  # fmt: skip
    return markdown(header, rows)


def serving() -> str:
    """Return the figures of `benchmarks.serve`, of a file and of a run."""
    found = results("serve")

    def row(name: str, value: Callable[[dict[str, Any]], str]) -> tuple[str, str, str]:
        return name, value(found["file"]), value(found["run"])

    def beside(part: str, unit: str) -> Callable[[dict[str, Any]], str]:
        mine, other = f"serve {unit}", f"{'bare' if part == 'one' else 'engine'} {unit}"
        return lambda kind: (
            f"{kind[part][mine] / kind[part][other]:.2f} "
            f"({kind[part][mine]:.0f}; {kind[part][other]:.0f})"
        )

    rows = [
        row("first answer: seconds after the start", lambda kind: f"{kind['first']:.1f}"),
        row("one connection: median ms, of bare", beside("one", "p50")),
        row("one connection: ms of processor time, of bare", beside("one", "cpu")),
        row("8 connections: images/s, of the engine's", beside("eight", "rate")),
        row("8 connections: ms of processor time, of the engine's", beside("eight", "cpu")),
    ]
    about = found["machine"]
    where = f"{about['cpu']}, {about['cores']} cores, {about['date'][:10]}"
    return markdown((where, "file, ONNX Runtime", "run, OpenVINO"), rows)


def faults() -> str:
    """Return what jobs lost to kills and to a bucket that fails."""
    parts = results("faults")["parts"].values()
    keys = ("what", "faults", "missing", "twice", "errors")
    rows = [[f"{row[key]:,}" if key != "what" else row[key] for key in keys]
            for part in parts for row in part["rows"]]  # fmt: skip
    return markdown(("what was done to it", "faults", "missing", "twice", "error rows"), rows)


def soak() -> str:
    """Return what a long use costs in memory, and what else was counted."""
    from benchmarks.soak import COUNTED, UNITS, Sample, judged

    rows = []
    for name, part in results("soak")["parts"].items():
        samples = judged([Sample(*values) for values in part["samples"]])
        ends = samples[0], samples[-1]
        counts = [" → ".join(str(getattr(one, what)) for one in ends) for what in COUNTED]
        growth = f"{100 * part['growth']:+.1f} %"
        of = "" if part["done"] == part["of"] else f" of {part['of']:,}"
        done = f"{part['done']:,}{of} {UNITS[name]}"
        rows.append((name, done, f"{part['mb']:.0f}", growth, *counts))
    return markdown(("", "done", "MB", "growth of memory", *COUNTED), rows)


def commands() -> str:
    """Return every command with the first sentence of its help, in the groups of `zoo --help`."""
    from zoo.cli.commands import GROUPS

    rows = [
        (group, f"`zoo {name}`", about.replace("|", "\\|"))
        for group, members in GROUPS.items()
        for name, about in members.items()
    ]
    return markdown(("", "command", "what it does"), rows)


def rooms() -> str:
    """Return the rooms of zoo/, what is in each, and which others it may import."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        tables = runpy.run_path(str(ROOT / "tests" / "test_house.py"))
    finally:
        sys.path.remove(str(ROOT / "tests"))
    rows = []
    for name, others in sorted(tables["MAY"].items()):
        if name:
            file = ROOT / "zoo" / name / "__init__.py"
            file = file if file.exists() else ROOT / "zoo" / f"{name}.py"
            said = ast.get_docstring(ast.parse(file.read_text())) or ""
            first = " ".join(said.split("\n\n")[0].split())
            rows.append((f"`{name}`", first.replace("|", "\\|"), in_short(others, tables)))
    sets = [f"*{name.lower()}*: {in_short(tables[name], tables, {name})}." for name in SETS]
    return markdown(("room", "what is in it", "may import"), rows) + "\n\n" + "  \n".join(sets)


def extra() -> str:
    """Return the extras, what each is for and what it installs."""
    rows = [
        (f"`{name}`", what, ", ".join(map(extras.package, extras.EXTRAS[name])))
        for name, what in extras.PURPOSES.items()
    ]
    return markdown(("extra", "what for", "packages"), rows)


SETS = ("LOW", "ENGINE", "VERB")  # of tests/test_house.py: rooms that many may import


def in_short(others: set[str], tables: dict[str, Any], but: Collection[str] = ()) -> str:
    """Return rooms in words; the largest set that is among them goes by its name."""
    held = [name for name in SETS if name not in but and tables[name] <= others]
    named = [f"*{held[-1].lower()}*"] if held else []
    rest = others - tables[held[-1]] if held else others
    return ", ".join(named + sorted(rest)) or "-"


def formats() -> str:
    """Return the formats of `zoo export`."""
    from zoo.export.formats import table

    return table()


TABLES: dict[str, Callable[[], str]] = {
    "catalogue": catalogue,
    "settings": settings,
    "recipes": recipes,
    "transfer": transfer,
    "imagenet": imagenet,
    "speed": speed_pages.full,
    "speed_quick": speed_pages.quick,
    "speed_ours": speed_pages.ours,
    "solver_sizes": speed_pages.sizes,
    "profile": speed_pages.profile,
    "training": speed_pages.training,
    "input": speed_pages.decoding,
    "small": speed_pages.small,
    "heads": heads,
    "views": views,
    "deeper": deeper,
    "doubt": doubt,
    "commands": commands,
    "serve": serving,
    "faults": faults,
    "soak": soak,
    "mutants": mutant_table.page,
    "rooms": rooms,
    "extras": extra,
    "formats": formats,
}


def filled(text: str) -> str:
    """Return a page with every table in it made anew."""
    for name in re.findall(r"<!-- begin (\w+) -->", text):
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        text = before + begin + TABLES[name]() + "\n" + end + rest.partition(end)[2]
    return text


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--check", action="store_true")
    given.add_argument("--write", action="store_true")
    given.add_argument("--weights", type=Path)
    given.add_argument("pages", nargs="*", help="pages whose commands are run; default: all")
    asked = given.parse_args()
    if asked.write:
        with tempfile.TemporaryDirectory() as folder:
            for changed in pages.rewrite(asked.weights, Path(folder), asked.pages):
                print(changed)
    differ = False
    for page in pages.pages():
        text = page.read_text()
        made = filled(text)
        differ |= made != text
        if not asked.check:
            page.write_text(made)
    return int(asked.check and differ)


if __name__ == "__main__":
    sys.exit(main())
