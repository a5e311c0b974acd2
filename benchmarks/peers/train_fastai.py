"""fastai's vision_learner, frozen: ResNet-50, random weights, its own head and transforms.

train_fastai.py DATA EPOCHS OUT
"""

from __future__ import annotations

import sys


def main(data: str, epochs: int, out: str) -> None:
    from fastai.vision.all import (
        ImageDataLoaders,
        Resize,
        accuracy,
        aug_transforms,
        resnet50,
        vision_learner,
    )

    loaders = ImageDataLoaders.from_folder(
        data,
        train="train",
        valid="val",
        bs=32,
        num_workers=2,
        item_tfms=Resize(224),
        batch_tfms=aug_transforms(),
    )
    learner = vision_learner(loaders, resnet50, pretrained=False, metrics=accuracy, path=out)
    learner.freeze()  # what pretrained=True would have done
    with learner.no_bar():
        learner.fit_one_cycle(epochs, 2e-3)
    learner.save("model")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
