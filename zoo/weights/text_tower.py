"""The text tower beside an image tower: a folder, or a repository of the Hub, of open_clip.

It holds `open_clip_config.json` and `open_clip_model.safetensors`, both towers in one file, as
open_clip's `save_for_hf` writes them. The config is data: of the text tower only the arguments in
TEXT are read, each in its bounds, and what is not understood is refused.
https://github.com/mlfoundations/open_clip
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from zoo.catalog.spec import Weights
from zoo.disk import opened
from zoo.errors import WeightsError
from zoo.watch import Progress
from zoo.weights.arrays import shapes
from zoo.weights.repository import MOST, PREFIX, Repository, repository, shown
from zoo.weights.store import HUB, find

CONFIG, FILE = "open_clip_config.json", "open_clip_model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
HINT = f"give a folder with {CONFIG} and {FILE}, as open_clip's save_for_hf writes it"
# Arguments of a text tower that are read, with the most that they may be; or the words.
TEXT: dict[str, float | tuple[object, ...]] = {
    "context_length": 4096, "vocab_size": 1 << 20, "width": 1 << 14, "heads": 256, "layers": 256,
    "mlp_ratio": 16, "pad_id": 1 << 20, "eos_id": 1 << 20,
    "embed_cls": (True, False), "no_causal_mask": (True, False), "proj_bias": (True, False),
    "final_ln_after_pool": (False,), "output_tokens": (False,), "hf_model_name": (None, ""),
    "pool_type": ("argmax", "last", "first", "eos"), "proj_type": ("linear", "none"),
    "act_kwargs": (None, {}, {"approximate": "tanh"}), "tokenizer_mode": (None, ""),
    "norm_kwargs": (None, {}, {"eps": 1e-5}, {"eps": 1e-6}), "ls_init_value": (None,),
    "tokenizer_kwargs": ({}, {"clean": "canonicalize"}, {"clean": "lower"},
                         {"clean": "whitespace"}),
}  # fmt: skip
# Where the last map of the image tower lies: (E, D) of a Linear, or (D, E) of a parameter.
PROJECTIONS = ("visual.proj", "visual.head.proj", "visual.head.mlp.fc2", "visual.trunk.head",
               "visual.trunk.head.fc")  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextTower:
    """Where a text tower lies, checked. width: E, of what pictures and texts are compared by.

    text: arguments of the tower. tokenizer: the files of one that is not open_clip's own; cleaning:
    what texts go through before it, by open_clip's word.
    projection: the tensor of the image tower's last map; nothing where it has none.
    """

    source: str
    file: Path
    width: int
    text: dict[str, object]
    quick_gelu: bool
    projection: str
    shapes: dict[str, tuple[int, ...]]
    tokenizer: tuple[Path, ...] = ()
    cleaning: str = "whitespace"

    @property
    def columns(self) -> int:
        """Return D, the length of the image tower's features; E where no map follows them."""
        if not self.projection:
            return self.width
        shape = self.shapes[self.projection]
        return shape[0] if self.projection == PROJECTIONS[0] else shape[1]


def text_tower(choice: str, progress: Progress | None = None) -> TextTower:
    """Return the text tower that `--text CHOICE` names, downloaded if need be.

    Raises WeightsError.
    """
    place = _place(choice)
    config = _file(place, CONFIG, progress)
    said = _read(config)
    file = _file(place, FILE, progress)
    text, known = said["text_cfg"], shapes(file)
    assert isinstance(text, dict)
    tokenizer: tuple[Path, ...] = ()
    cleaning = text.pop("tokenizer_kwargs", {}).get("clean", "whitespace")
    if text.pop("hf_tokenizer_name", None):
        tokenizer = tuple(_file(place, name, progress) for name in TOKENIZER)
    projection = next(
        (f for name in PROJECTIONS for f in (name, f"{name}.weight") if len(known.get(f, ())) == 2),
        "",
    )
    found = TextTower(
        str(place),
        file,
        int(said["embed_dim"]),  # type: ignore[call-overload]
        text,
        said.get("quick_gelu") is True,
        projection,
        known,
        tokenizer,
        cleaning,
    )
    _check_shapes(found)
    return found


def _place(choice: str) -> Repository:
    if choice.startswith(PREFIX):
        found = repository(choice)
        assert found is not None
        return found
    folder = Path(os.path.expanduser(choice)).absolute()
    if not os.path.isfile(folder / CONFIG):
        raise WeightsError(f"--text {choice}: there is no {CONFIG}", f"{HINT}, or {PREFIX}ORG/NAME")
    return Repository(folder=folder)


def _file(place: Repository, name: str, progress: Progress | None) -> Path:
    """Return a file of the place. Raises WeightsError."""
    if place.folder is None:
        url = f"{HUB}/{place.name}"
        local = f"hf--{place.name.replace('/', '--')}--{name}"
        return find(Weights(str(place), f"{url}/resolve/main/{name}", local, source=url),
                    progress=progress)  # fmt: skip
    if not (place.folder / name).is_file():
        raise WeightsError(f"{place.folder} has no {name}", HINT)
    return place.folder / name


def _read(path: Path) -> dict[str, object]:
    """Return the config of both towers, that of the text tower checked. Raises WeightsError."""
    try:
        with opened(path, MOST) as file:
            said = json.load(file)["model_cfg"]
        text, width = dict(said["text_cfg"]), said["embed_dim"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or "it is no config of open_clip"
        raise WeightsError(f"cannot read {path}: {why}", HINT) from error
    if type(width) is not int or not 1 <= width <= 1 << 14:
        raise WeightsError(f"{path}: embed_dim is {shown(width)}", HINT)
    if "multimodal_cfg" in said:
        raise WeightsError(f"{path}: a tower that writes texts (multimodal_cfg) is not read", HINT)
    for name, value in text.items():
        if name != "hf_tokenizer_name" and not _allowed(name, value):
            raise WeightsError(
                f"{path}: text_cfg has {shown(name)} = {shown(value)}, which is not read",
                "take weights whose text tower is a transformer of open_clip's own",
            )
    return {**said, "text_cfg": text}


def _allowed(name: str, value: object) -> bool:
    wanted = TEXT.get(name, ())
    if isinstance(wanted, tuple):
        return type(value) is not int and value in wanted
    whole = type(value) is int or (name == "mlp_ratio" and type(value) is float)
    return whole and math.isfinite(value) and 0 <= value <= wanted  # type: ignore[operator, arg-type]


def _check_shapes(tower: TextTower) -> None:
    """Raises WeightsError where the file's tensors are not of the tower that the config says.

    Before one is built, so that a config cannot ask for more memory than its file has.
    """
    text = tower.text
    tokens, width = (text.get(n, d) for n, d in (("vocab_size", 49408), ("width", 512)))
    at = "text." if "text.token_embedding.weight" in tower.shapes else ""
    there = tower.shapes.get(f"{at}token_embedding.weight")
    blocks = sum(name.endswith(".attn.in_proj_weight") and name.startswith(f"{at}transformer.")
                 for name in tower.shapes)  # fmt: skip
    inside = tower.shapes.get(f"{at}transformer.resblocks.0.mlp.c_fc.weight", (0,))[0]
    same = there == (tokens, width) and blocks == text.get("layers", 12)
    long = tower.shapes.get(f"{at}positional_embedding", (0,))[0] == text.get("context_length", 77)
    long = long or bool(text.get("embed_cls"))
    if not same or not long or inside != int(width * text.get("mlp_ratio", 4.0)):  # type: ignore[operator]
        raise WeightsError(
            f"{tower.file} holds no text tower as {CONFIG} describes it "
            f"({shown(tokens)} tokens, width {shown(width)})",
            HINT,
        )
    shape = tower.shapes.get(tower.projection, (tower.width, tower.width))
    if tower.width not in shape:
        raise WeightsError(
            f"{tower.file}: {tower.projection} is {' x '.join(map(str, shape))}, and {CONFIG} "
            f"says {tower.width}",
            HINT,
        )
