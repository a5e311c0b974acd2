"""The model card of a run: https://huggingface.co/docs/hub/model-cards

Class names and the names of data are a stranger's text: they are written as text, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from zoo.metrics import wilson
from zoo.text import count, one_line, percent

Facts = Mapping[str, Any]
# Of run.json, what may be told: nothing of this machine, and no photo's name.
_TOLD = ("zoo", "model", "weights_sha256", "classes", "task", "head", "cut", "boundary", "views",
         "flip", "phases", "preprocess", "precision", "penalty", "classes_table", "calibration",
         "results", "model_sha256", "best_epoch", "seconds")  # fmt: skip


def facts_of(record: Facts) -> dict[str, Any]:
    """Return what may be published of a run.json; a path becomes the last name in it."""
    told = {name: record[name] for name in _TOLD if name in record}
    data, began = record["data"], record.get("weights") or {}
    told["data"] = {
        "name": PurePath(str(data["name"])).name,
        **{part: data.get(part, 0) for part in ("train", "val", "test")},
    }
    told["weights"] = {"tag": began.get("tag", ""), "licence": began.get("licence", "")}
    return told


def text_of(facts: Facts, name: str, licence: str, files: Sequence[str]) -> str:
    """Return README.md. name: ORG/NAME. licence: of the model; empty where nobody has said."""
    data, parts = facts["data"], [_head(licence), f"# {name}\n", _summary(facts)]
    accuracy = facts.get("results", {}).get("accuracy")
    if accuracy is not None and data["val"]:
        low, high = wilson(round(accuracy * data["val"]), data["val"])
        parts.append(
            f"Accuracy on {count(data['val'], 'val photo')}: {percent(accuracy)} (95 % interval "
            f"{percent(low)} to {percent(high)}). The val photos were not trained on.\n"
        )
    if facts.get("classes_table"):
        parts.append(_classes(facts["classes_table"]))
    if "confusion.png" in files:
        parts.append("![Who is taken for whom, on the val photos](confusion.png)\n")
    parts += [_use(name, "config.json" in files), _made(facts)]
    return "\n".join(parts)


def _head(licence: str) -> str:
    lines = ["---", "tags: [image-classification, onnx, zoo]", "pipeline_tag: image-classification"]
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    return "\n".join([*lines, "---"]) + "\n"


def _summary(facts: Facts) -> str:
    data, began = facts["data"], facts["weights"]
    where = " ".join(filter(None, (began["tag"], began["licence"] and f"({began['licence']})")))
    start = "random weights" if where in ("", "none") else f"the weights {_plain(where)}"
    return (
        f"{_plain(facts['model'])}, begun from {start}, tells "
        f"{count(len(facts['classes']), 'class', 'classes')} of {_plain(data['name'])} apart: "
        f"{count(data['train'], 'photo')} to train on, {data['val']:,} val, "
        f"{data['test']:,} test.\n"
    )


def _classes(table: Sequence[Facts]) -> str:
    rows = [
        "| class | val photos | precision | recall, 95 % interval |",
        "| --- | --: | --: | --: |",
    ]
    for row in table:
        if not row["photos"]:  # nothing was measured
            rows.append(f"| {_plain(row['name'])} | 0 | - | - |")
            continue
        low, high = wilson(round(row["recall"] * row["photos"]), row["photos"])
        rows.append(
            f"| {_plain(row['name'])} | {row['photos']} | {percent(row['precision'])} | "
            f"{percent(row['recall'])}, {percent(low)} to {percent(high)} |"
        )
    return "\n".join(rows) + "\n"


def _use(name: str, with_timm: bool) -> str:
    lines = ["```bash", f"zoo pull hf-hub:{name}", f"zoo predict {name.split('/')[1]}/model.onnx "
             "PHOTOS", "```", ""]  # fmt: skip
    if with_timm:
        made = f'model = timm.create_model("hf-hub:{name}", pretrained=True).eval()'
        lines += ["```python", "import timm", made, "```", ""]
    return "\n".join(lines)


def _made(facts: Facts) -> str:
    phases = facts.get("phases") or ()
    solvers = ", then ".join(str(phase["solver"]) for phase in phases)
    seen = facts["preprocess"]
    return (
        f"Made by zoo (`zoo-transfer`) {facts['zoo']}: frozen up to "
        f"{_plain(str(facts.get('cut')))}, head {_plain(str(facts.get('head')))}, {solvers}; "
        f"pictures of {seen['size']} pixels, {facts.get('precision')}. The facts and the sha256 of "
        "each file are in zoo.json.\n"
    )


def _plain(text: object) -> str:
    """Return a name as text of Markdown in a cell of a table, whatever it is called."""
    line = one_line(str(text))
    return "".join(f"\\{one}" if one in r"\`*_{}[]<>()#+!|~&" else one for one in line)
