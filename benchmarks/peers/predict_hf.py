"""A folder to CSV by Hugging Face's image-classification pipeline: ResNet-50, random weights.

predict_hf.py FOLDER OUT.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path


def main(folder: str, out: str) -> None:
    from transformers import (
        ConvNextImageProcessor,
        ResNetConfig,
        ResNetForImageClassification,
        pipeline,
    )

    model = ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()
    processor = ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875)
    classify = pipeline("image-classification", model, image_processor=processor, device=-1)
    paths = sorted(str(path) for path in Path(folder).rglob("*.jpg"))
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        answers = classify(paths, batch_size=32, top_k=5, num_workers=2)
        for path, answer in zip(paths, answers, strict=True):
            writer.writerow([path, *(value for one in answer for value in one.values())])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
