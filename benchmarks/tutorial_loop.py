"""The reference: transfer learning with a frozen ResNet-50 as PyTorch's tutorials write it.

    python -m benchmarks.tutorial_loop FOLDER EPOCHS [best | best-fp32]

After "Transfer Learning for Computer Vision Tutorial" (docs.pytorch.org), its part "ConvNet as
fixed feature extractor", with two differences: random weights, and Adam for SGD with momentum.
Every epoch runs the frozen layers again, over new crops for training and over val. With `best` it
has what one adds for speed without another way to work: channels last and bf16 by autocast;
`best-fp32` is that without bf16, for processors that have none.
"""

from __future__ import annotations

import os
import sys

import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

data_transforms = {
    "train": transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    ),
    "val": transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    ),
}


def main(folder: str, num_epochs: int, best: str = "") -> None:
    image_datasets = {
        x: datasets.ImageFolder(os.path.join(folder, x), data_transforms[x])
        for x in ["train", "val"]
    }
    dataloaders = {
        x: DataLoader(image_datasets[x], batch_size=32, shuffle=x == "train", num_workers=2)
        for x in ["train", "val"]
    }
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")

    last = torch.channels_last
    model = models.resnet50(weights=None)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, len(image_datasets["train"].classes))
    model = model.to(device, memory_format=last if best else torch.preserve_format)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.fc.parameters(), lr=1e-3)

    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            model.train(phase == "train")
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                if best:
                    inputs = inputs.contiguous(memory_format=last)
                with torch.set_grad_enabled(phase == "train"):
                    with torch.autocast(device.type, torch.bfloat16, enabled=best == "best"):
                        outputs = model(inputs)
                    outputs = outputs.float()
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += int((outputs.argmax(1) == labels).sum())
            count = len(image_datasets[phase])
            print(f"{epoch} {phase} {running_loss / count:.4f} {running_corrects / count:.4f}")
    torch.save(model.state_dict(), os.path.join(folder, os.pardir, "tutorial.pt"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
