"""A folder to CSV by `yolo classify predict batch=32`: ultralytics' own ResNet-50, random weights.

predict_ultralytics.py FOLDER OUT.csv
"""

from __future__ import annotations

import csv
import sys


def main(folder: str, out: str) -> None:
    from ultralytics import YOLO

    model = YOLO("yolov8l-cls-resnet50.yaml", task="classify")
    found = model.predict(
        f"{folder}/**/*.jpg",
        stream=True,
        batch=32,
        imgsz=224,
        device="cpu",
        verbose=False,
    )
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        for one in found:
            values = one.probs.data.tolist()
            top = [value for k in one.probs.top5 for value in (one.names[k], values[k])]
            writer.writerow([one.path, *top])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
