"""`yolo classify train freeze=5`: ultralytics' own ResNet-50, random weights.

    train_ultralytics.py DATA EPOCHS OUT

Its ResNet-50 is a lookalike of its own blocks with a 1280-wide convolution before the classifier;
the first five modules are the residual layers.
"""

from __future__ import annotations

import sys


def main(data: str, epochs: int, out: str) -> None:
    from ultralytics import YOLO

    YOLO("yolov8l-cls-resnet50.yaml", task="classify").train(
        data=data,
        epochs=epochs,
        imgsz=224,
        batch=32,
        freeze=5,
        workers=2,
        device="cpu",
        plots=False,
        project=out,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
