"""What a network learns: the class of a photo, all of its labels, or to give back its pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.index import DatasetIndex
from zoo.metrics import Array, label_report, report, sigmoid
from zoo.models.head import last_layer
from zoo.train.batches import Batches, PhotoBatches
from zoo.train.records import LoopSettings, Scores

if TYPE_CHECKING:
    import torch
    from torch import nn


class Loss:
    """The loss of a training, and how the validation photos are scored."""

    def __init__(self, settings: LoopSettings, batches: Batches, device: torch.device) -> None: ...

    def mean(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Array) -> torch.Tensor:
        """Return the mean over a batch; `rows` are the numbers of its training rows."""
        raise NotImplementedError

    def weight(self, rows: Array) -> float:
        """Return what these rows count in the mean over a larger batch."""
        return float(len(rows))

    def evaluate(self, model: nn.Module, batches: Batches) -> Scores:
        """Score all validation photos. The model is put in eval mode."""
        raise NotImplementedError


class _OfLabels(Loss):
    """A loss against the labels of the batches, which are put on the device."""

    def __init__(self, settings: LoopSettings, batches: Batches, device: torch.device) -> None:
        import torch

        weights = settings.class_weights
        self.classes, self.smoothing = settings.classes, settings.label_smoothing
        self.class_weights = torch.tensor(weights, device=device) if weights else None
        dtype = torch.float32 if batches.labels.ndim > 1 else torch.int64
        self.labels, self.val_labels = (
            torch.from_numpy(labels).to(dtype).to(device)
            for labels in (batches.labels, batches.val_labels)
        )

    def outputs(self, model: nn.Module, batches: Batches) -> torch.Tensor:
        """Return what the network gives for all validation photos, N x K."""
        import torch

        model.eval()
        with torch.inference_mode():
            return torch.cat([model(inputs) for inputs in batches.val()]).float()


class CrossEntropy(_OfLabels):
    """Cross-entropy over the classes; a class's weight multiplies the whole loss of its photos."""

    def mean(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Array) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        labels, each, smoothing = self.labels[rows.tolist()], self.class_weights, self.smoothing
        if each is None or not smoothing:
            return cross_entropy(outputs, labels, each, label_smoothing=smoothing)
        # torch weighs the smoothed share of a class too: a rare one's would outweigh the labels.
        losses = cross_entropy(outputs, labels, label_smoothing=smoothing, reduction="none")
        return (each[labels] * losses).sum() / each[labels].sum()

    def weight(self, rows: Array) -> float:
        if self.class_weights is None:
            return float(len(rows))
        return float(self.class_weights[self.labels[rows.tolist()]].sum())

    def evaluate(self, model: nn.Module, batches: Batches) -> Scores:
        scores = self.outputs(model, batches)
        outputs = np.asarray(scores.cpu().numpy())
        found = report(outputs.argmax(axis=1), batches.val_labels, self.classes)
        return Scores(self.of_val(scores), found, outputs=outputs)

    def of_val(self, scores: torch.Tensor) -> float:
        """Return the loss of the validation photos, without weights and smoothing."""
        from torch.nn.functional import cross_entropy

        return float(cross_entropy(scores, self.val_labels))


class OfOneHot(CrossEntropy):
    """mse, mae or bce of each photo's probabilities against its class's one and the others' zeros.

    mse and mae are of the softmax: the square is the Brier score (Brier 1950, "Verification of
    Forecasts Expressed in Terms of Probability"), and |p - y| is 2 (1 - p of the class), whose
    gradient is small where a class is hardly seen yet. bce is of a sigmoid for each class by itself
    (Beyer et al. 2020, "Are we done with ImageNet?", arXiv:2006.07159, section 5.2). All are sums
    over the classes. class_weights multiply the whole loss of a photo, label_smoothing spreads its
    share over all classes.
    """

    def __init__(self, settings: LoopSettings, batches: Batches, device: torch.device) -> None:
        super().__init__(settings, batches, device)
        self.name = settings.loss

    def each(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each photo: N K scores and N K targets in, N out."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        if self.name == "bce":
            return binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(1)
        rest = outputs.softmax(1) - targets
        return (rest.square() if self.name == "mse" else rest.abs()).sum(1)

    def one_hot(self, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import one_hot

        return one_hot(labels, len(self.classes)).float()

    def mean(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Array) -> torch.Tensor:
        labels, weights = self.labels[rows.tolist()], self.class_weights
        targets = self.one_hot(labels) * (1 - self.smoothing) + self.smoothing / len(self.classes)
        losses = self.each(outputs, targets)
        if weights is None:
            return losses.mean()
        return (weights[labels] * losses).sum() / weights[labels].sum()

    def of_val(self, scores: torch.Tensor) -> float:
        return float(self.each(scores, self.one_hot(self.val_labels)).mean())


class Distillation(CrossEntropy):
    """What a teacher answers, softened by a temperature T, with a share of the labels beside it.

    T^2 KL(softmax(t / T) || softmax(s / T)), whose gradient is of the labels' size whatever T is
    (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531,
    section 2). The val photos are scored by their labels.
    """

    def __init__(self, settings: LoopSettings, batches: Batches, device: torch.device) -> None:
        super().__init__(settings, batches, device)
        assert isinstance(batches, PhotoBatches), "all of a network learns from a teacher"
        self.batches, self.device = batches, device
        self.temperature, self.truth = settings.temperature, settings.truth

    def mean(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Array) -> torch.Tensor:
        import torch
        from torch.nn.functional import kl_div, log_softmax

        answers, number = self.batches.answers, self.batches.number
        assert answers is not None, "nobody teaches"
        taught = torch.from_numpy(answers[rows, number]).to(self.device)
        ours, theirs = (log_softmax(each / self.temperature, 1) for each in (outputs, taught))
        loss = kl_div(ours, theirs, reduction="batchmean", log_target=True) * self.temperature**2
        if not self.truth:
            return loss
        return (1 - self.truth) * loss + self.truth * super().mean(outputs, inputs, rows)


class BinaryCrossEntropy(_OfLabels):
    """Yes or no for each class: the mean over photos and classes.

    class_weights are what a photo of a class counts more than one without it, whatever its label
    is smoothed to. label_smoothing goes to the two answers, half each.
    """

    def mean(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Array) -> torch.Tensor:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        targets, each = self.labels[rows.tolist()], self.class_weights
        if not self.smoothing:
            return binary_cross_entropy_with_logits(outputs, targets, pos_weight=each)
        # Not by pos_weight: a photo without the label has a smoothed share of it too.
        weight = None if each is None else torch.where(targets > 0.5, each, 1.0)
        targets = targets * (1 - self.smoothing) + self.smoothing / 2
        return binary_cross_entropy_with_logits(outputs, targets, weight)

    def evaluate(self, model: nn.Module, batches: Batches) -> Scores:
        from torch.nn.functional import binary_cross_entropy_with_logits

        scores = self.outputs(model, batches)
        outputs = np.asarray(scores.cpu().numpy())
        found = label_report(sigmoid(outputs), batches.val_labels, self.classes)
        loss = float(binary_cross_entropy_with_logits(scores, self.val_labels))
        return Scores(loss, labels=found, outputs=outputs)


class Reconstruction(Loss):
    """The input itself is the target."""

    def __init__(self, settings: LoopSettings, batches: Batches, device: torch.device) -> None:
        from torch.nn import functional

        losses: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "bce": functional.binary_cross_entropy,
        }
        self.criterion = losses["mse" if settings.loss == "auto" else settings.loss]

    def mean(self, outputs: torch.Tensor, inputs: torch.Tensor, rows: Array) -> torch.Tensor:
        return self.criterion(outputs, inputs)

    def evaluate(self, model: nn.Module, batches: Batches) -> Scores:
        import torch

        model.eval()
        sums, count = np.zeros(3), 0
        with torch.inference_mode():
            for inputs in batches.val():
                outputs = model(inputs)
                error = outputs - inputs
                loss = self.criterion(outputs, inputs)
                values = (loss, error.square().mean(), error.abs().mean())
                sums += len(inputs) * np.array([float(value) for value in values])
                count += len(inputs)
        loss, mse, mae = (sums / count).tolist()
        return Scores(loss, mse=mse, mae=mae)


def loss_of(settings: LoopSettings) -> type[Loss]:
    """Return the kind of loss that a training has."""
    if settings.task == "classify" and settings.loss not in ("auto", "cross_entropy"):
        return OfOneHot
    return LOSSES[settings.task]


LOSSES: dict[str, type[Loss]] = {
    "classify": CrossEntropy,
    "multilabel": BinaryCrossEntropy,
    "reconstruct": Reconstruction,
    "distil": Distillation,
}


def begin(chain: nn.Module, head: str, index: DatasetIndex, weights: object) -> None:
    """Give the last layer's bias each class's share of the training photos from the start.

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
