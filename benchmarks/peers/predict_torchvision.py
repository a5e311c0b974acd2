"""A folder to CSV as most scripts do it: torchvision's ResNet-50, a DataLoader, batches of 32.

predict_torchvision.py FOLDER OUT.csv [best | best-fp32]    channels last, and with `best` bf16

On a GPU where there is one.
"""

from __future__ import annotations

import csv
import sys


def main(folder: str, out: str, best: str = "") -> None:
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, models, transforms

    plain = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    photos = datasets.ImageFolder(folder, plain)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.channels_last if best else torch.preserve_format
    model = models.resnet50(weights=None).eval().to(device, memory_format=layout)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=best == "best")
    with open(out, "w", newline="") as file, torch.no_grad(), autocast:
        writer = csv.writer(file)
        paths = iter(path for path, _ in photos.samples)
        for pictures, _ in DataLoader(photos, batch_size=32, num_workers=2):
            pictures = pictures.to(device, memory_format=layout)
            values, classes = model(pictures).float().softmax(1).topk(5)
            for row in zip(values.tolist(), classes.tolist(), strict=True):
                writer.writerow(
                    [next(paths), *(one for pair in zip(*row, strict=True) for one in pair)]
                )


if __name__ == "__main__":
    main(sys.argv[1], *sys.argv[2:])
