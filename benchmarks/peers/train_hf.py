"""Hugging Face's Trainer and datasets with a frozen base: ResNet-50, random weights.

    train_hf.py DATA EPOCHS OUT

After the example run_image_classification.py of transformers: its transforms, its Trainer, with
`requires_grad = False` for the base, which the example has no flag for.
"""

from __future__ import annotations

import sys
from typing import Any


def main(data: str, epochs: int, out: str) -> None:
    import numpy as np
    import torch
    from datasets import load_dataset
    from torchvision.transforms import (
        CenterCrop,
        Compose,
        Normalize,
        RandomHorizontalFlip,
        RandomResizedCrop,
        Resize,
        ToTensor,
    )
    from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

    files = {"train": f"{data}/train/**", "validation": f"{data}/val/**"}
    photos = load_dataset("imagefolder", data_files=files)
    normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    drawn = Compose([RandomResizedCrop(224), RandomHorizontalFlip(), ToTensor(), normalize])
    plain = Compose([Resize(256), CenterCrop(224), ToTensor(), normalize])

    def transform(how: Any) -> Any:
        return lambda rows: {
            "pixel_values": [how(image.convert("RGB")) for image in rows["image"]],
            "labels": rows["label"],
        }

    photos["train"].set_transform(transform(drawn))
    photos["validation"].set_transform(transform(plain))
    labels = photos["train"].features["label"].num_classes
    model = ResNetForImageClassification(ResNetConfig(num_labels=labels))
    for parameter in model.resnet.parameters():
        parameter.requires_grad = False
    settings = TrainingArguments(
        out,
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        learning_rate=1e-3,
        eval_strategy="epoch",
        save_strategy="epoch",
        dataloader_num_workers=2,
        remove_unused_columns=False,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        settings,
        data_collator=lambda rows: {
            "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
            "labels": torch.tensor([row["labels"] for row in rows]),
        },
        train_dataset=photos["train"],
        eval_dataset=photos["validation"],
        compute_metrics=lambda p: {"accuracy": float(np.mean(p[0].argmax(1) == p[1]))},
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
