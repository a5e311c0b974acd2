"""A new linear head by AdamW, with timm's transforms for training, new in each epoch.

From timm's train.py are the crop's scale and ratio, mirror images, drop_last, label smoothing,
cosine with warm-up, no dropout; RandAugment is the policy that its recipes share (colour jitter
gives way to it, as timm has it). Its rate is for whole networks by SGD, and a head's decides what
comes out: one head is trained with each of three rates, on the same pictures, one line for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trunk import answer, arguments, load, photos, seed_all

RATES = (1e-3, 3e-3, 1e-2)
SETTINGS: dict[str, Any] = {
    "transforms": {
        "scale": (0.08, 1.0),
        "ratio": (3 / 4, 4 / 3),
        "hflip": 0.5,
        "color_jitter": 0.4,
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "interpolation": "random",
    },
    "batch": 32,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "warmup_epochs": 5,
    "warmup_lr": 1e-5,
    "workers": 2,
}


def main() -> None:
    parser = arguments(__doc__, epochs=30)
    parser.add_argument("--lr", type=float, nargs="+", default=RATES, help="(1e-3 3e-3 1e-2)")
    parser.add_argument(
        "--untimed", action="store_true", help="the same training in less time: see Trunk"
    )
    flags = parser.parse_args()
    seed_all(flags.seed)

    import torch
    from timm.data import create_transform
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from torch import nn
    from torch.utils.data import DataLoader

    trunk, width, expected = load(flags.model, flags.weights)
    drawn = create_transform(**{**expected, **SETTINGS["transforms"]}, is_training=True)
    train = photos(flags.data / "train", drawn)
    val = photos(flags.data / "val", create_transform(**expected))
    keep = {"num_workers": SETTINGS["workers"], "persistent_workers": True}
    batches = DataLoader(train, SETTINGS["batch"], shuffle=True, drop_last=True, **keep)
    held_out = DataLoader(val, SETTINGS["batch"], **keep)
    criterion = LabelSmoothingCrossEntropy(SETTINGS["label_smoothing"])
    warm = {"warmup_t": SETTINGS["warmup_epochs"], "warmup_lr_init": SETTINGS["warmup_lr"]}
    heads = [nn.Linear(width, len(train.classes)) for _ in flags.lr]
    optimizers = [
        create_optimizer_v2(head, SETTINGS["optimizer"], lr, SETTINGS["weight_decay"])
        for head, lr in zip(heads, flags.lr, strict=True)
    ]
    schedules = [CosineLRScheduler(one, t_initial=flags.epochs, **warm) for one in optimizers]
    frozen = Trunk(trunk, flags.untimed)

    accuracies: list[list[float]] = []  # of each epoch, of each head
    for epoch in range(flags.epochs):
        for pictures, labels in batches:
            features = frozen(pictures)
            for head, optimizer in zip(heads, optimizers, strict=True):
                loss = criterion(head(features), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        for schedule in schedules:
            schedule.step(epoch + 1)
        hits = [0] * len(heads)
        with torch.inference_mode():
            for features, labels in frozen.over(held_out):
                for number, head in enumerate(heads):
                    hits[number] += int((head(features).argmax(1) == labels).sum())
        accuracies.append([count / len(val) for count in hits])
    for lr, found in zip(flags.lr, zip(*accuracies, strict=True), strict=True):
        answer(flags, found, SETTINGS | {"epochs": flags.epochs, "lr": lr})


class Trunk:
    """The frozen part; `untimed`: traced and frozen, and the val photos pass through it once.

    What comes out differs by rounding. What it costs is then not what a user pays.
    """

    def __init__(self, trunk: Any, untimed: bool) -> None:
        import torch

        if untimed:
            trunk = torch.jit.freeze(torch.jit.trace(trunk, torch.zeros(2, 3, 224, 224)))
        self.trunk = trunk
        self.keep = untimed
        self.kept: list[tuple[Any, Any]] = []

    def __call__(self, pictures: Any) -> Any:
        import torch

        with torch.no_grad():
            return self.trunk(pictures)

    def over(self, batches: Any) -> Iterator[tuple[Any, Any]]:
        """Features and labels of each batch."""
        if self.kept:
            yield from self.kept
            return
        for pictures, labels in batches:
            found = self(pictures), labels
            if self.keep:
                self.kept.append(found)
            yield found


if __name__ == "__main__":
    main()
