"""zoo info of a run folder or an exported file. No torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog import Preprocess
from zoo.catalog.spec import pixels
from zoo.cli import layout
from zoo.cli.console import out, print_json, print_table
from zoo.errors import UsageError
from zoo.text import count, percent, printable

if TYPE_CHECKING:
    from zoo.run import Run

Record = dict[str, Any]  # run.json or a part of it
SHOWN = 10  # classes
REBUILDS = "reconstruct: gives a picture back, and its code"
SCORES = {"accuracy": "accuracy", "map": "mAP", "macro_f1": "macro-F1",
          "exact": "all labels right"}  # fmt: skip
ERRORS = {"mse": "MSE", "mae": "MAE"}


def show_run(folder: str, classes: bool, as_json: bool) -> None:
    """Print what run.json and metrics.jsonl say. Raises RunError for what is no run folder."""
    from zoo.run import Run

    run = Run.open(Path(folder))
    about = run.record
    names = about.get("classes", []) if about.get("task", "classify") != "reconstruct" else []
    if classes:
        _list_classes(folder, names, as_json)
    elif as_json:
        print_json(about)
    else:
        state = about["status"] + (f": {about['reason']}" if about.get("reason") else "")
        show(f"{folder}: a run of {about.get('model')}, {state}", _of_run(run, names))


def _of_run(run: Run, names: list[str]) -> list[tuple[str, str]]:
    about = run.record
    data, preprocess, test = (about.get(name) or {} for name in ("data", "preprocess", "test"))
    variant = about.get("variant") or {}
    return [
        ("weights", _origin(about.get("weights", {}))),
        ("variant", ", ".join(f"{key} {value}" for key, value in variant.items())),
        ("frozen", _frozen(about)),
        ("task", _task(about.get("threshold"))),
        ("classes", _class_list(names)),
        ("photos", f"{_photos(data)}, of {data['root']}" if data else ""),
        ("input", describe_input(Preprocess.from_dict(preprocess)) if preprocess else ""),
        ("epochs", _epochs(run)),
        ("test", f"{_results(test)} on {count(test['photos'], 'photo')}" if test else ""),
        ("results", _results(about.get("results", {})) + " on val" * bool(test)),
        *(("evidence", _repeats(kind)) for kind in about.get("evidence", {}).values()),
        ("time", f"{about['seconds']:,.0f} s" if "seconds" in about else ""),
        ("precision", f"{about['precision']} on {about['device']}" if "device" in about else ""),
        *(("exported", _exported(proof)) for proof in about.get("exported", {}).values()),
    ]


def _frozen(about: Record) -> str:
    """Tell the last frozen stage of each phase of the training."""
    first, *later = about.get("phases") or [{"cut": about.get("cut")}]
    said = f"up to {first['cut']}" if first["cut"] else "nothing: every layer is trained"
    for phase in later:
        said += f"; from epoch {phase['first']} on "
        said += f"up to {phase['cut']}" if phase["cut"] else "nothing"
    return said


def _task(threshold: float | None) -> str:
    """Tell when several classes are given; nothing where a photo has one, as is expected."""
    if threshold is None:
        return ""
    return f"multilabel: every class with a probability of {threshold:g} or more"


def _origin(origin: Record) -> str:
    """Tell where the weights are from that the training began with."""
    tag, file = origin.get("tag"), origin.get("file", "")
    if tag == "none":
        return f"none: random at the start, from seed {origin.get('seed', 0)}"
    if tag in ("file", "run"):
        taken = f" ({origin['taken']})" if origin.get("taken") else ""
        return f"{'run ' if tag == 'run' else ''}{file}{taken}"
    licence = f"licence {origin['licence']}" if origin.get("licence") else ""
    return ", ".join(filter(None, (str(tag or ""), file, licence)))


def _class_list(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN:,} more; --classes lists them" if names[SHOWN:] else ""
    return f"{len(names):,}: {', '.join(names[:SHOWN])}{more}"


def _epochs(run: Run) -> str:
    lines, made = run.metrics(), run.record.get("made_from")
    if made:
        return f"none: class {printable(made['class'])} was added to {made['run']}"
    if not lines:
        return "none yet"
    if run.record.get("best_by") == "optimum":
        return "none: the head is the optimum on the training photos"
    if (texts := run.record.get("text")) is not None:
        share, place = texts["share"], printable(texts["from"])
        return f"none: {share:.0%} of the head is class names, as {place} has them, the rest solved"
    if run.record.get("best_by") == "computed":
        return "none: the head is computed from the training photos"
    best = run.record.get("best_epoch")
    return f"{len(lines)}, the weights are those of epoch {best}" if best else str(len(lines))


def _results(scores: Record) -> str:
    """Tell what the validation or test photos say of a run."""
    parts = [
        f"{SCORES[key]} {percent(value, 2)}" if key in SCORES else f"{ERRORS[key]} {value:.6f}"
        for key, value in scores.items()
        if key in SCORES or (key in ERRORS and value is not None)
    ]
    if "pca_mse" in scores:
        components = count(scores["pca_components"], "component")
        parts.append(f"PCA with {components}: MSE {scores['pca_mse']:.6f}")
    return ", ".join(parts)


def _photos(data: Record) -> str:
    test = f", {data['test']} test" if data.get("test") else ""
    return f"{data['train']} train, {data['val']} val{test}"


def _repeats(found: Record) -> str:
    """Tell what the repetitions with other seeds or folds say."""
    mean, low, high = (percent(found[name], 2) for name in ("mean", "low", "high"))
    return f"{len(found['macro_f1'])} {found['kind']}: mean {mean}, 95 % interval {low} to {high}"


def _exported(proof: Record) -> str:
    where = f"{proof.get('path')} ({proof.get('input')}, {proof.get('bytes', 0) / 1e6:.1f} MB)"
    if proof.get("agree") is None or "photos" not in proof:
        return where
    return f"{where}, same class on {proof['agree']} of {count(proof['photos'], 'photo')}"


# Exported files


def show_onnx(file: str, classes: bool, as_json: bool) -> None:
    """Print what the metadata of an exported file say. Raises InputError, WeightsError."""
    from dataclasses import asdict

    from zoo import catalog
    from zoo.engine.open_file import open_exported

    path = Path(file)
    if not path.is_file():
        raise catalog.no_exported(file)
    model = open_exported(path)
    name, version = (model.about.get(f"zoo.{key}", "") for key in ("model", "version"))
    names = list(model.classes) if model.task != "reconstruct" else []
    size = path.stat().st_size
    if classes:
        _list_classes(file, names, as_json)
    elif as_json:
        print_json({"model": name, "zoo": version, "task": model.task, "input": model.input,
                    "classes": names, "preprocess": asdict(model.preprocess),
                    "bytes": size})  # fmt: skip
    else:
        image = model.input == "image"
        rows = [
            ("task", _task(model.threshold) if names else REBUILDS),
            ("classes", _class_list(names)),
            ("takes", "uint8 pictures of any size" if image else "float32 N,C,H,W, normalised"),
            ("input", describe_input(model.preprocess)),
            ("size", f"{size / 1e6:.1f} MB"),
            ("written by", f"zoo {version}"),
        ]
        show(f"{file}: an exported {name}", rows)


def _list_classes(name: str, names: list[str], as_json: bool) -> None:
    """Print one line for each class. Raises UsageError for what has no classes."""
    if not names:
        raise UsageError(
            f"{name} is of an autoencoder, which knows no classes",
            "--classes is for networks that tell classes: leave it out",
        )
    list_outputs({"name": names}, as_json)


# Whatever is shown


def show(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a title and a line for each row that says something."""
    width = layout.width_of(sys.stdout)
    out("\n".join(layout.wrapped(title, width, "  ")), "best")
    for label, text in rows:
        if text:
            out("\n".join(layout.wrapped(f"  {label:<11}{text}", width, " " * 13)))


def list_outputs(columns: Mapping[str, Sequence[str]], as_json: bool) -> None:
    """Print one line for each output of a network, with its number first."""
    rows = list(enumerate(zip(*columns.values(), strict=True)))
    if as_json:
        print_json([{"index": k} | dict(zip(columns, row, strict=True)) for k, row in rows])
    else:
        cells = [(str(k), *map(printable, row)) for k, row in rows]
        print_table(cells, ("output", *columns), "r")


def describe_input(preprocess: Preprocess) -> str:
    kind = "grey" if preprocess.channels == 1 else "RGB"
    how = f"centre {preprocess.crop:.3g}" if preprocess.fit == "crop" else ""
    how += " of the shorter side" if how and preprocess.height == preprocess.width else ""
    mean = ", ".join(f"{value:.3g}" for value in preprocess.mean)
    std = ", ".join(f"{value:.3g}" for value in preprocess.std)
    side = f"{pixels(preprocess.size)} {kind}"
    return f"{side}, {how or preprocess.fit}, {preprocess.interpolation}, mean {mean}, std {std}"
