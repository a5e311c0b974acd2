"""A linear probe: features of the plain centre view, once, and scikit-learn's regression on them.

--cross-validate: the regularisation is chosen by cross-validation, whose folds the seed draws;
otherwise it is scikit-learn's default, and nothing is random.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from trunk import answer, arguments, load, photos, seed_all


def main() -> None:
    parser = arguments(__doc__, epochs=1)
    parser.add_argument("--cross-validate", action="store_true")
    flags = parser.parse_args()
    seed_all(flags.seed)
    trunk, _, expected = load(flags.model, flags.weights)
    x, y = features(trunk, flags.data / "train", expected)
    x_val, y_val = features(trunk, flags.data / "val", expected)

    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    settings: dict[str, Any] = {"scaler": "StandardScaler", "max_iter": 1000, "views": 1}
    if flags.cross_validate:
        folds = StratifiedKFold(5, shuffle=True, random_state=flags.seed)
        head: Any = LogisticRegressionCV(
            Cs=10,
            cv=folds,
            max_iter=1000,
            l1_ratios=(0.0,),
            scoring="accuracy",
            use_legacy_attributes=False,
        )
        settings |= {"head": "LogisticRegressionCV", "Cs": 10, "cv": 5}
    else:
        head = LogisticRegression(max_iter=1000)
        settings |= {"head": "LogisticRegression", "C": 1.0}
    with threadpool_limits(1):
        model = make_pipeline(StandardScaler(), head).fit(x, y)
        accuracy = float(model.score(x_val, y_val))
    answer(flags, [accuracy], settings, "scikit-learn")


def features(trunk: Any, folder: Any, expected: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """N x D and N labels."""
    import torch
    from timm.data import create_transform
    from torch.utils.data import DataLoader

    loader = DataLoader(photos(folder, create_transform(**expected)), 32, num_workers=2)
    rows, labels = [], []
    with torch.inference_mode():
        for pictures, classes in loader:
            rows.append(trunk(pictures).numpy())
            labels.append(classes.numpy())
    return np.concatenate(rows), np.concatenate(labels)


if __name__ == "__main__":
    main()
