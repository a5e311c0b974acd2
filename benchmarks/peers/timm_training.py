"""Training by timm's own functions with the settings that are quickest on a CPU, or on a GPU.

    timm_training.py MODEL DATA EPOCHS [--cut STAGE] [--precision bf16] [--device cuda]

timm's train.py is in its repository, not in its wheel: these are its steps. Quick are channels
last, autocast, memory that is kept (the caller's MALLOC_ variables) and two processes that decode;
the crops and colours are those of `zoo`. With --cut everything up to the stage runs in eval mode
without gradients. Prints one line of JSON: the seconds of each epoch, its validation included.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import takewhile
from typing import Any

BATCH, WORKERS = 32, 2
AREA, JITTER = (0.35, 1.0), 0.2


def main() -> None:
    flags = parse()
    import torch
    from timm import create_model
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

    device = torch.device(flags.device)
    batches, held_out, classes = loaders(flags, device)
    model = create_model(flags.model, pretrained=False, num_classes=classes)
    model = model.to(device, memory_format=torch.channels_last)
    frozen, trained = halves(model, flags.cut)
    optimizer = create_optimizer_v2(trained, "adamw", lr=1e-3, weight_decay=0.01)
    schedule = CosineLRScheduler(optimizer, t_initial=flags.epochs)
    network = Network(frozen, trained, device, flags.precision)
    seconds = []
    for epoch in range(flags.epochs):
        began = time.perf_counter()
        trained.train()
        for pictures, labels in batches:
            loss = torch.nn.functional.cross_entropy(network(pictures), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step(epoch + 1)
        trained.eval()
        with torch.inference_mode():
            right = sum(int((network(x).argmax(1) == y).sum()) for x, y in held_out)
        seconds.append(round(time.perf_counter() - began, 4))
    settings = {"batch": BATCH, "workers": WORKERS, "threads": torch.get_num_threads()}
    versions = {"torch": torch.__version__, "photos_right": right}
    print(json.dumps({"epochs": seconds, **settings, **versions}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("epochs", type=int)
    parser.add_argument("--cut", help="the last frozen stage; by default everything is trained")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def loaders(flags: argparse.Namespace, device: Any) -> tuple[Any, Any, int]:
    """Batches to train on and to validate with, and the number of classes."""
    from timm.data import create_dataset, create_loader

    train, val = (create_dataset("", os.path.join(flags.data, part)) for part in ("train", "val"))
    shared = {"input_size": (3, 224, 224), "batch_size": BATCH, "num_workers": WORKERS}
    shared |= {"device": device, "persistent_workers": True, "interpolation": "bilinear"}
    changed = {"scale": AREA, "hflip": 0.5, "color_jitter": JITTER}
    batches = create_loader(train, is_training=True, **changed, **shared)
    return batches, create_loader(val, **shared), len(train.reader.class_to_idx)


def halves(model: Any, cut: str | None) -> tuple[Any, Any]:
    """What is frozen, None where nothing is, and what is trained; a ResNet is its children."""
    from torch import nn

    if cut is None:
        return None, model
    names = [name for name, _ in model.named_children()]
    first = [*takewhile(lambda name: name != cut, names), cut]
    parts = [[part for name, part in model.named_children() if (name in first) is frozen]
             for frozen in (True, False)]  # fmt: skip
    frozen, trained = (nn.Sequential(*part) for part in parts)
    return frozen.eval().requires_grad_(False), trained


class Network:
    """Both halves, in their precision."""

    def __init__(self, frozen: Any, trained: Any, device: Any, precision: str) -> None:
        self.frozen, self.trained, self.device = frozen, trained, device
        self.bf16 = precision == "bf16"

    def __call__(self, pictures: Any) -> Any:
        import torch

        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if self.frozen is not None:
                with torch.no_grad():
                    pictures = self.frozen(pictures)
            outputs = self.trained(pictures)
        return outputs.float()


if __name__ == "__main__":
    main()
