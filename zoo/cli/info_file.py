"""zoo info of what was made here: a run folder, or an exported file. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog import Preprocess
from zoo.cli.console import out, print_json, table
from zoo.errors import UsageError
from zoo.text import count, percent, printable

if TYPE_CHECKING:
    from zoo.run import Run

SHOWN = 10  # classes
REBUILDS = "reconstruct: gives a picture back, and its code"


def show_run(folder: str, classes: bool, as_json: bool) -> None:
    """What run.json and metrics.jsonl say. Raises RunError for what is no run folder."""
    from zoo.run import Run

    run = Run.open(Path(folder))
    about = run.record
    names = about.get("classes", []) if about.get("task", "classify") != "reconstruct" else []
    if classes:
        list_classes(folder, names, as_json)
        return
    if as_json:
        print_json(about)
        return
    state = about["status"] + (f": {about['reason']}" if about.get("reason") else "")
    show(f"{folder}: a run of {about.get('model')}, {state}", of_run(run, names))


def of_run(run: Run, names: list[str]) -> list[tuple[str, str]]:
    about = run.record
    data = about.get("data", {})
    rows = [
        ("weights", began_from(about.get("weights", {}))),
        ("variant", ", ".join(f"{key} {value}" for key, value in variant(about))),
        ("frozen", frozen(about)),
        ("task", task(about.get("threshold"))),
        ("classes", class_list(names)),
        ("photos", f"{photos(data)}, of {data['root']}" if data else ""),
        ("input", shown_input(about.get("preprocess"))),
        ("epochs", epochs(run)),
        ("test", tested(about.get("test", {}))),
        ("results", results(about.get("results", {})) + " on val" * ("test" in about)),
        *(("evidence", evidence(kind)) for kind in about.get("evidence", {}).values()),
        ("time", f"{about['seconds']:,.0f} s" if "seconds" in about else ""),
        ("precision", f"{about['precision']} on {about['device']}" if "device" in about else ""),
    ]
    return rows + [("exported", exported(kind)) for kind in about.get("exported", {}).values()]


def frozen(about: dict[str, Any]) -> str:
    """The last frozen stage, of each phase of the training."""
    first, *later = about.get("phases") or [{"cut": about.get("cut")}]
    said = f"up to {first['cut']}" if first["cut"] else "nothing: every layer is trained"
    for phase in later:
        said += f"; from epoch {phase['first']} on "
        said += f"up to {phase['cut']}" if phase["cut"] else "nothing"
    return said


def task(threshold: float | None) -> str:
    """Nothing of a network that tells one class a photo, as is expected."""
    if threshold is None:
        return ""
    return f"multilabel: every class with a probability of {threshold:g} or more"


def variant(about: dict[str, Any]) -> list[tuple[str, Any]]:
    return list((about.get("variant") or {}).items())


def began_from(origin: dict[str, Any]) -> str:
    """Where the weights are from that the training began with."""
    tag, file = origin.get("tag"), origin.get("file", "")
    if tag == "none":
        return f"none: random at the start, from seed {origin.get('seed', 0)}"
    if tag in ("file", "run"):
        taken = f" ({origin['taken']})" if origin.get("taken") else ""
        return f"{'run ' if tag == 'run' else ''}{file}{taken}"
    licence = f"licence {origin['licence']}" if origin.get("licence") else ""
    return ", ".join(filter(None, (str(tag or ""), file, licence)))


def class_list(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN:,} more; --classes lists them" if names[SHOWN:] else ""
    return f"{len(names):,}: {', '.join(names[:SHOWN])}{more}"


def shown_input(preprocess: dict[str, Any] | None) -> str:
    pass

    return describe_input(Preprocess.from_dict(preprocess)) if preprocess else ""


def epochs(run: Run) -> str:
    lines = run.metrics()
    if not lines:
        return "none yet"
    if run.record.get("best_by") == "optimum":
        return "none: the head is the optimum on the training photos"
    best = run.record.get("best_epoch")
    return f"{len(lines)}, the weights are those of epoch {best}" if best else str(len(lines))


def results(found: dict[str, Any]) -> str:
    """Tell what the validation photos say of a run."""
    shares = {"accuracy": "accuracy", "map": "mAP", "macro_f1": "macro-F1",
              "exact": "all labels right"}  # fmt: skip
    words = {"mse": "MSE", "mae": "MAE"}
    parts = []
    for key, value in found.items():
        if key in shares:
            parts.append(f"{shares[key]} {percent(value, 2)}")
        elif key in words and value is not None:
            parts.append(f"{words[key]} {value:.6f}")
    if "pca_mse" in found:
        components = count(found["pca_components"], "component")
        parts.append(f"PCA with {components}: MSE {found['pca_mse']:.6f}")
    return ", ".join(parts)


def photos(data: dict[str, Any]) -> str:
    test = f", {data['test']} test" if data.get("test") else ""
    return f"{data['train']} train, {data['val']} val{test}"


def tested(found: dict[str, Any]) -> str:
    """Tell what the test photos say of a run; they have chosen nothing."""
    return f"{results(found)} on {count(found['photos'], 'photo')}" if found else ""


def evidence(found: dict[str, Any]) -> str:
    """Tell what the repetitions with other seeds or folds say."""
    mean, ends = percent(found["mean"], 2), (percent(found["low"], 2), percent(found["high"], 2))
    count = len(found["macro_f1"])
    return f"{count} {found['kind']}: mean {mean}, 95 % interval {ends[0]} to {ends[1]}"


def exported(proof: dict[str, Any]) -> str:
    where = f"{proof.get('path')} ({proof.get('input')}, {proof.get('bytes', 0) / 1e6:.1f} MB)"
    if proof.get("agree") is None or "photos" not in proof:
        return where
    return f"{where}, same class on {proof['agree']} of {count(proof['photos'], 'photo')}"


# Exported files


def show_onnx(file: str, classes: bool, as_json: bool) -> None:
    """What the metadata of an exported file say. Raises InputError, WeightsError."""
    from dataclasses import asdict

    from zoo.engine.onnx import OnnxModel
    from zoo.errors import InputError

    path = Path(file)
    if not path.is_file():
        raise InputError(f"there is no file {file}", "`zoo export onnx RUN` makes one")
    model = OnnxModel(path, threads=1)
    names = list(model.classes) if model.task != "reconstruct" else []
    if classes:
        list_classes(file, names, as_json)
        return
    record: dict[str, Any] = {
        "model": model.about.get("zoo.model", ""),
        "zoo": model.about.get("zoo.version", ""),
        "task": model.task,
        "input": model.input,
        "classes": names,
        "preprocess": asdict(model.preprocess),
        "bytes": path.stat().st_size,
    }
    if as_json:
        print_json(record)
        return
    image = model.input == "image"
    rows = [
        ("task", task(model.threshold) if names else REBUILDS),
        ("classes", class_list(names)),
        ("takes", "uint8 pictures of any size" if image else "float32 N,C,H,W, normalised"),
        ("input", shown_input(record["preprocess"])),
        ("size", f"{record['bytes'] / 1e6:.1f} MB"),
        ("written by", f"zoo {record['zoo']}"),
    ]
    show(f"{file}: an exported {record['model']}", rows)


# Both


def show(title: str, rows: list[tuple[str, str]]) -> None:
    out(title)
    for label, text in rows:
        if text:
            out(f"  {label:<11}{printable(text)}")


def list_classes(name: str, names: list[str], as_json: bool) -> None:
    """One line per output. Raises UsageError for what has no classes."""
    if not names:
        raise UsageError(
            f"{name} is of an autoencoder, which knows no classes",
            "--classes is for networks that tell classes: leave it out",
        )
    if as_json:
        print_json([{"index": index, "name": each} for index, each in enumerate(names)])
        return
    rows = [(str(index), printable(each)) for index, each in enumerate(names)]
    out("\n".join(table(rows, ("output", "name"), "r")))


def describe_input(preprocess: Preprocess) -> str:
    kind = "grey" if preprocess.channels == 1 else "RGB"
    how = f"centre {preprocess.crop:.3g} of the shorter side" if preprocess.fit == "crop" else ""
    mean = ", ".join(f"{value:.3g}" for value in preprocess.mean)
    std = ", ".join(f"{value:.3g}" for value in preprocess.std)
    side = f"{preprocess.size} x {preprocess.size} {kind}"
    return f"{side}, {how or preprocess.fit}, {preprocess.interpolation}, mean {mean}, std {std}"
