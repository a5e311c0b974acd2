"""timm's training with everything but the classifier frozen: ResNet-50, random weights.

    train_timm.py DATA EPOCHS OUT [best | best-fp32]    --channels-last, and with `best`
                                                        --amp --amp-dtype bfloat16

timm's train.py is in its repository, not in its wheel, and has no way to freeze. These are its
steps with timm's own functions and its default values; the two lines that freeze are the patch.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(data: str, epochs: int, out: str, best: str = "") -> None:
    import torch
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.models import create_model
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter, CheckpointSaver, accuracy

    train, val = (create_dataset("", root=f"{data}/{part}") for part in ("train", "val"))
    model = create_model("resnet50", pretrained=False, num_classes=len(train.reader.class_to_idx))
    layout = torch.channels_last if best else torch.preserve_format
    model.to(memory_format=layout).requires_grad_(False)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=best == "best")
    model.get_classifier().requires_grad_(True)
    found = resolve_data_config({}, model=model)
    shared = {"input_size": found["input_size"], "batch_size": 32, "num_workers": 2}
    shared |= {"mean": found["mean"], "std": found["std"], "device": torch.device("cpu")}
    batches = create_loader(
        train, is_training=True, hflip=0.5, color_jitter=0.4, interpolation="random", **shared
    )
    held_out = create_loader(
        val, interpolation=found["interpolation"], crop_pct=found["crop_pct"], **shared
    )
    optimizer = create_optimizer_v2(model, "sgd", lr=0.1 * 32 / 256, weight_decay=2e-5)
    schedule, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=epochs, warmup_epochs=0)
    criterion = LabelSmoothingCrossEntropy(0.1)
    Path(out).mkdir(parents=True)
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=out, max_history=1)
    for epoch in range(epochs):
        model.train()
        for pictures, labels in batches:
            with autocast:
                loss = criterion(model(pictures.to(memory_format=layout)), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        hits = AverageMeter()
        with torch.inference_mode(), autocast:
            for pictures, labels in held_out:
                pictures = pictures.to(memory_format=layout)
                hits.update(accuracy(model(pictures), labels)[0].item(), len(labels))
        schedule.step(epoch + 1)
        saver.save_checkpoint(epoch, metric=hits.avg)
        print(epoch, loss.item(), hits.avg)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
