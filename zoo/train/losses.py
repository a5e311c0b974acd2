"""What a network learns: the class of a photo, all of its labels, or to give back its pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.metrics import label_report, report, sigmoid
from zoo.models.head import last_layer
from zoo.train.batches import Source
from zoo.train.records import Scores

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.train.records import Settings


class Task(Protocol):
    def loss(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Any) -> torch.Tensor:
        """The mean over the batch; `rows` are the numbers of its training rows."""

    def weight(self, rows: Any) -> float:
        """What these rows count in the mean over a larger batch."""

    def evaluate(self, model: nn.Module, source: Source) -> Scores:
        """The scores of the whole validation part. The model is put in eval mode."""


class Classify:
    """Cross-entropy over the classes; a network's auxiliary heads are added where it has them.

    A class's weight belongs to its photos: it multiplies the whole loss of each, smoothing too.
    """

    def __init__(self, settings: Settings, source: Source, device: Any) -> None:
        import torch

        weights = settings.class_weights
        self.classes, self.smoothing = settings.classes, settings.label_smoothing
        self.class_weights = torch.tensor(weights, device=device) if weights else None
        self.labels = torch.from_numpy(source.labels).long().to(device)
        self.val_labels = torch.from_numpy(source.val_labels).long().to(device)

    def loss(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Any) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        labels, each, smoothing = self.labels[rows.tolist()], self.class_weights, self.smoothing
        if each is None or not smoothing:
            return cross_entropy(outputs, labels, each, label_smoothing=smoothing)
        # torch weighs the smoothed share of a class too: a rare one's would outweigh the labels.
        losses = cross_entropy(outputs, labels, label_smoothing=smoothing, reduction="none")
        return (each[labels] * losses).sum() / each[labels].sum()

    def weight(self, rows: Any) -> float:
        if self.class_weights is None:
            return float(len(rows))
        return float(self.class_weights[self.labels[rows.tolist()]].sum())

    def evaluate(self, model: nn.Module, source: Source) -> Scores:
        import torch

        model.eval()
        with torch.inference_mode():
            scores = torch.cat([model(inputs) for inputs in source.val()]).float()
            loss = float(torch.nn.functional.cross_entropy(scores, self.val_labels))
        outputs = np.asarray(scores.cpu().numpy())
        found = report(outputs.argmax(axis=1), source.val_labels, self.classes)
        return Scores(loss, found, outputs=outputs)


class MultiLabel:
    """Yes or no for each class: binary cross-entropy, the mean over photos and classes.

    Settings.class_weights are what a photo of a class counts more than one without it, whatever
    its label is smoothed to. label_smoothing goes to the two answers, half each, as among the
    classes of Classify.
    """

    def __init__(self, settings: Settings, source: Source, device: Any) -> None:
        import torch

        weights = settings.class_weights
        self.classes, self.smoothing = settings.classes, settings.label_smoothing
        self.class_weights = torch.tensor(weights, device=device) if weights else None
        self.targets = torch.from_numpy(source.labels).float().to(device)
        self.val_targets = torch.from_numpy(source.val_labels).float().to(device)

    def loss(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Any) -> torch.Tensor:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        targets, each = self.targets[rows.tolist()], self.class_weights
        if not self.smoothing:
            return binary_cross_entropy_with_logits(outputs, targets, pos_weight=each)
        # Not by pos_weight: a photo without the label has a smoothed share of it too.
        weight = None if each is None else torch.where(targets > 0.5, each, 1.0)
        targets = targets * (1 - self.smoothing) + self.smoothing / 2
        return binary_cross_entropy_with_logits(outputs, targets, weight)

    def weight(self, rows: Any) -> float:
        return float(len(rows))

    def evaluate(self, model: nn.Module, source: Source) -> Scores:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        model.eval()
        with torch.inference_mode():
            scores = torch.cat([model(inputs) for inputs in source.val()]).float()
            loss = float(binary_cross_entropy_with_logits(scores, self.val_targets))
        outputs = np.asarray(scores.cpu().numpy())
        found = label_report(sigmoid(outputs), source.val_labels, self.classes)
        return Scores(loss, labels=found, outputs=outputs)


class Reconstruct:
    """The input itself is the target."""

    def __init__(self, settings: Settings, source: Source, device: Any) -> None:
        from torch.nn import functional

        losses: dict[str, Any] = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "bce": functional.binary_cross_entropy,
        }
        self.criterion = losses["mse" if settings.loss == "auto" else settings.loss]

    def loss(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Any) -> torch.Tensor:
        value: torch.Tensor = self.criterion(outputs, inputs)
        return value

    def weight(self, rows: Any) -> float:
        return float(len(rows))

    def evaluate(self, model: nn.Module, source: Source) -> Scores:
        import torch

        model.eval()
        sums, count = np.zeros(3), 0
        with torch.inference_mode():
            for inputs in source.val():
                outputs = model(inputs)
                error = outputs - inputs
                values = (
                    self.criterion(outputs, inputs),
                    error.square().mean(),
                    error.abs().mean(),
                )
                sums += len(inputs) * np.array([float(value) for value in values])
                count += len(inputs)
        loss, mse, mae = (sums / count).tolist()
        return Scores(loss, mse=mse, mae=mae)


TASKS: dict[str, Callable[..., Task]] = {
    "classify": Classify,
    "multilabel": MultiLabel,
    "reconstruct": Reconstruct,
}


def begin(chain: nn.Module, head: str, index: DatasetIndex, weights: object) -> None:
    """The last layer's bias gives each class its share of the training photos from the start.

    Labels are rare; from one half on, most of a short training would go into learning that (Lin et
    al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, section 3.3). weights: of
    the classes in the loss, with which one half is where it begins.
    """
    import torch

    bias = getattr(last_layer(chain, head), "bias", None)
    if bias is None or weights is not None:
        return
    counts, photos = np.array(index.counts("train")), len(index.of("train"))
    odds = (counts + 0.5) / (photos - counts + 0.5)  # of a label that all photos have, too
    with torch.no_grad():
        bias.copy_(torch.from_numpy(np.log(odds)))
