"""A run as a folder of the Hugging Face Hub: config.json, model.safetensors and README.md.

`timm.create_model("local-dir:FOLDER", pretrained=True)` and transformers' pipeline load it, with
their own transforms. On what the network itself takes timm gives the run's probabilities to 1e-5,
which is the check here; of a photo both resize the whole where zoo resizes the middle, which turns
a byte in ten thousand by 1 and moves a probability by less than a thousandth.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.preprocess import framed
from zoo.disk import writing
from zoo.engine import Array
from zoo.engine.exported import ExportedModel
from zoo.errors import ParityError
from zoo.export import basis
from zoo.export.convert import convert
from zoo.export.formats import find
from zoo.export.records import Exported, Order
from zoo.network import model_file
from zoo.run import Run
from zoo.text import count
from zoo.weights.hf_config import config_of
from zoo.weights.repository import CONFIG, FILES

EXACT = 1e-5  # of a probability, on what the network takes


def export_run(run: Run, order: Order) -> Exported:
    """Write the folder and return its proof. Raises UsageError where timm has no equivalent."""
    config_of(run.record)  # before anything is computed

    def written(base: Path, folder: Path) -> None:
        folder.mkdir()
        write_folder(run, folder)
        _must_be_exact(run, folder, order)

    about = basis.About.of_run(run)
    return convert(run, order, find("hf"), written, lambda folder: TimmFolder(folder, about))


def write_folder(run: Run, folder: Path, card: str | None = None) -> None:
    """Write the three files into a folder that is there. Raises UsageError, RunError.

    card: the text of README.md, else a short one. The weights are the run's own file by a hard
    link, so they are on the disk once; a copy where the file system has no links.
    """
    config = json.dumps(config_of(run.record), indent=2, ensure_ascii=False)
    source, place = model_file(run)[0], folder / FILES[0]
    with writing(folder):
        (folder / CONFIG).write_text(config + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card or _card(run), encoding="utf-8")
        try:
            os.link(source, place)
        except OSError:
            shutil.copyfile(source, place)


def _card(run: Run) -> str:
    """Return a short model card: what it is, how good, and how it is loaded."""
    record = run.record
    classes = [str(name) for name in record["classes"]]
    accuracy, data = record.get("results", {}).get("accuracy"), record["data"]
    head = [
        "library_name: timm",
        "pipeline_tag: image-classification",
        "tags: [timm, transformers]",
    ]
    lines = [
        "---", *head, "---", f"# {record['model']} on {Path(data['name']).name}", "",
        f"{count(len(classes), 'class', 'classes')}, trained on {count(data['train'], 'photo')}, "
        f"validated on {data['val']:,}"
        + (f" (accuracy {100 * accuracy:.1f} %)." if accuracy is not None else "."),
        "", "```python", "import timm",
        'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()',
        "from transformers import pipeline",
        'pipeline("image-classification", model="FOLDER")("photo.jpg")',
        "```", "", "Classes: " + ", ".join(map(_plain, classes)) + ".",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _plain(name: str) -> str:
    """Return a class's name as text of Markdown, whatever it is called."""
    return "".join(f"\\{one}" if one in r"\`*_{}[]<>()#+-!|" else one for one in name)


class TimmFolder(ExportedModel):
    """The folder as timm opens it, with timm's transforms: raw pictures in, probabilities out."""

    word = "hf"

    def __init__(self, path: Path, about: basis.About) -> None:
        import timm
        from timm.data.config import resolve_data_config
        from timm.data.transforms_factory import create_transform

        name = f"local-dir:{path.resolve()}"
        self.model = timm.create_model(name, pretrained=True).eval()
        config: Any = self.model.pretrained_cfg
        how = resolve_data_config({}, pretrained_cfg=config)  # type: ignore[no-untyped-call]
        self.transform = create_transform(**how)
        said = {
            "zoo.classes": json.dumps(config["label_names"]),
            "zoo.preprocess": json.dumps(about.preprocess.to_dict()),
            "zoo.input": "image",
        }
        super().__init__(path, said, f"timm {timm.__version__}")

    def values(self, batch: Array) -> list[Array]:
        """Return the probabilities N x K."""
        import torch

        torch.set_num_threads(1)
        with torch.no_grad():
            inputs = torch.stack([self.transform(Image.fromarray(one)) for one in batch])
            return [self.model(inputs).softmax(1).numpy()]


def _must_be_exact(run: Run, folder: Path, order: Order) -> None:
    """Raises ParityError where timm's answers to what the network takes are not the run's."""
    from zoo.network import of_run

    about = basis.About.of_run(run)
    pictures = basis.readable(order.photos, about.preprocess, basis.enough(run))
    chain = of_run(run).chain
    theirs = basis.torch_values(chain, about.preprocess, np.stack([p for _, p in pictures]))
    model = TimmFolder(folder, about)
    ours = np.concatenate([model.run(framed(seen, about.preprocess)[None]) for _, seen in pictures])
    apart = float(np.abs(ours - about.probabilities(theirs)).max())
    if not apart <= EXACT:
        raise ParityError(
            f"timm's answers to what the network takes differ from the run's by {apart:.2g}, at "
            f"most {EXACT:g} is allowed",
            "please report it with the model's name; no folder was written",
        )
