"""A plain loop over MNIST's tensors in memory, as small networks are trained: LeNet, AdamW.

mnist_torch.py FOLDER EPOCHS

FOLDER has the four IDX files. Pictures are normalised once; an epoch is a permutation, batches of
100 by indexing, and the test pictures after it. Prints one line of JSON: the seconds of each epoch.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

BATCH, RATE, DECAY = 100, 2e-3, 0.01
MEAN, STD = 0.1307, 0.3081


def main(folder: str, epochs: int) -> None:
    torch.manual_seed(0)
    pictures, labels = tensors(Path(folder), "train")
    tests, answers = tensors(Path(folder), "t10k")
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    seconds, right = [], 0
    for _ in range(epochs):
        began = time.perf_counter()
        model.train()
        for rows in torch.randperm(len(labels)).split(BATCH):
            loss = nn.functional.cross_entropy(model(pictures[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            pairs = zip(tests.split(1000), answers.split(1000), strict=True)
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs)
        seconds.append(round(time.perf_counter() - began, 4))
    print(json.dumps({"epochs": seconds, "right": right, "of": len(answers)}))


def tensors(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = (read(next(folder.glob(f"{part}-{kind}*"))) for kind in ("images", "labels"))
    values = torch.from_numpy(pixels[16:].reshape(-1, 1, 28, 28).copy()).float() / 255
    return (values - MEAN) / STD, torch.from_numpy(labels[8:].astype(np.int64))


def read(path: Path) -> np.ndarray:
    raw = path.read_bytes()
    return np.frombuffer(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw, np.uint8)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
