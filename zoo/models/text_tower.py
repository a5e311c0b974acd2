"""The text tower of open_clip: class names to directions that pictures are compared with.

Its arguments and tensors come from a file that was checked, see `weights/text_tower.py`; the
modules and the tokenizer of CLIP are open_clip's own, which the extra `text` brings.
Radford et al. 2021, arXiv:2103.00020; SigLIP: Zhai et al. 2023, arXiv:2303.15343.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from open_clip import CustomTextCLIP

OLD = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
Tokens = Callable[[list[str]], Tensor]


def text_tower(
    width: int, text: dict[str, object], quick_gelu: bool, tensors: dict[str, Tensor]
) -> CustomTextCLIP:
    """Return a model whose text tower has these tensors, and which has no image tower to speak of.

    Raises ValueError where they are not its own.
    """
    import open_clip

    tiny = {"layers": 1, "width": 64, "head_width": 64, "image_size": 8, "patch_size": 8}
    vision, words = open_clip.CLIPVisionCfg(**tiny), open_clip.CLIPTextCfg(**text)
    model = open_clip.CustomTextCLIP(width, vision, words, quick_gelu=quick_gelu)
    own = {
        name.removeprefix("text."): value.float()
        for name, value in tensors.items()
        if name.startswith(("text.", *OLD))
    }
    names = list(model.text.state_dict())
    if missing := [name for name in names if name not in own]:
        raise ValueError(f"there is no {missing[0]}")
    try:
        model.text.load_state_dict({name: own[name] for name in names})
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[-1].strip()) from error
    return model.eval()


def tokens(length: int, files: Sequence[Path] = (), cleaning: str = "") -> Tokens:
    """Return what makes numbers of texts, N x length: of CLIP, or as a tokenizer.json says.

    files: that, and its config, which names the token that fills up. cleaning: see open_clip.
    Raises ValueError.
    """
    from open_clip import SimpleTokenizer
    from open_clip.tokenizer import get_clean_fn

    if not files:
        return SimpleTokenizer(context_length=length)  # type: ignore[no-any-return]
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_file(str(files[0]))
    except Exception as error:  # its own has no type
        raise ValueError(f"{files[0]}: {error}") from error
    pad = json.loads(files[1].read_bytes()).get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    number = found.token_to_id(pad) if isinstance(pad, str) else None
    if number is None:
        raise ValueError(f"{files[1]} names no pad_token that {files[0].name} has")
    found.enable_truncation(length)
    found.enable_padding(length=length, pad_id=number, pad_token=pad)
    clean = get_clean_fn(cleaning)

    def numbered(texts: list[str]) -> Tensor:
        return torch.tensor([one.ids for one in found.encode_batch([*map(clean, texts)])])

    return numbered


def directions(model: CustomTextCLIP, numbers: Tokens, names: Sequence[str]) -> Tensor:
    """Return K x E of length 1: the mean over the prompts of what the tower makes of each name.

    The prompts are the seven that CLIP's authors publish as enough:
    https://github.com/openai/CLIP/blob/main/notebooks/Prompt_Engineering_for_ImageNet.ipynb
    """
    import open_clip

    rows: Tensor = open_clip.build_zero_shot_classifier(
        model, numbers, names, open_clip.SIMPLE_IMAGENET_TEMPLATES
    )
    return rows.T.contiguous()
