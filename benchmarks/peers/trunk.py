"""What the peers share: the frozen part with the weights of a file, and the line they print.

SqueezeNet's features end in a mean over the map, as in `zoo.models.replace_head`: its own head,
with ReLU over the scores, trains worse. timm has no SqueezeNet, so that one is torchvision's.
"""

from __future__ import annotations

import json
import random
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

STARTED = time.perf_counter()


def arguments(text: str | None, epochs: int) -> ArgumentParser:
    parser = ArgumentParser(description=(text or "").splitlines()[0])
    parser.add_argument("model", choices=("mobilenetv2_100", "squeezenet1_1"))
    parser.add_argument("weights", type=Path, help="the file of its ImageNet weights")
    parser.add_argument("data", type=Path, help="folder with {train,val}/CLASS/*.jpg")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=epochs, help=f"({epochs})")
    return parser


def load(name: str, weights: Path) -> tuple[Any, int, dict[str, Any]]:
    """The frozen trunk N 3 H W -> N D in eval mode, D, and the pictures that it expects."""
    import torch
    from torch import nn

    state = torch.load(weights, map_location="cpu", weights_only=True)
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    if name == "squeezenet1_1":
        from torchvision.models import squeezenet1_1

        whole = squeezenet1_1()
        whole.load_state_dict(state)
        trunk = nn.Sequential(whole.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        width, interpolation = 512, "bilinear"
    else:
        import timm

        trunk = timm.create_model(name)
        trunk.load_state_dict(state)
        trunk.reset_classifier(0)
        width, interpolation = trunk.num_features, "bicubic"
    trunk.eval().requires_grad_(False)
    size = {"input_size": 224, "crop_pct": 0.875, "interpolation": interpolation}
    return trunk, width, {**size, **imagenet}


def photos(folder: Path, transform: Any) -> Any:
    """A folder of classes as torchvision reads it."""
    from torchvision.datasets import ImageFolder

    return ImageFolder(str(folder), transform)


def seed_all(seed: int) -> None:
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def answer(
    flags: Namespace, accuracies: Sequence[float], settings: dict[str, Any], *packages: str
) -> None:
    """The one line on stdout; accuracies: of the val photos, after each epoch."""
    used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    names = (*packages, "torch", "torchvision", "timm", "pillow")
    result = {
        "model": flags.model,
        "photos": flags.data.name,
        "seed": flags.seed,
        "last": round(accuracies[-1], 6),
        "best": round(max(accuracies), 6),
        "wall": round(time.perf_counter() - STARTED, 3),
        "cpu": round(sum(one.ru_utime + one.ru_stime for one in used), 3),
        "settings": settings,
        "versions": {name: version(name) for name in names},
        "accuracies": [round(value, 6) for value in accuracies],
    }
    print(json.dumps(result))
