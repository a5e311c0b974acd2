"""A folder to CSV as timm's inference.py does it: ResNet-50, random weights, -b 32 -j 2, top 5.

    predict_timm.py FOLDER OUT.csv

The script is in timm's repository, not in its wheel; these are its steps with timm's functions.
"""

from __future__ import annotations

import sys


def main(folder: str, out: str) -> None:
    import numpy as np
    import pandas as pd
    import torch
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.models import create_model

    model = create_model("resnet50", pretrained=False)
    found = resolve_data_config({}, model=model)
    model.eval()
    dataset = create_dataset("", root=folder)
    loader = create_loader(
        dataset, batch_size=32, num_workers=2, device=torch.device("cpu"), **found
    )
    indices, outputs = [], []
    with torch.inference_mode():
        for pictures, _ in loader:
            output, index = model(pictures).softmax(-1).topk(5)
            outputs.append(output.numpy())
            indices.append(index.numpy())
    table = pd.DataFrame({"filename": loader.dataset.filenames(basename=True)})
    for name, values in (("index", np.concatenate(indices)), ("prob", np.concatenate(outputs))):
        for number in range(5):
            table[f"{name}_{number}"] = values[:, number]
    table.to_csv(out, index=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
