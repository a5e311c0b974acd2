"""Small networks for small grey pictures: what lectures begin with, and what came before them.

They have no published weights and train from scratch in minutes. What a row's variants change is
said at the head of its file in zoo/models.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from zoo.catalog.spec import Knob, ModelSpec, Preprocess

_GREY_28 = Preprocess(size=28, crop=1.0, channels=1, mean=(0.0,), std=(1.0,))
_FROM_BLACK_28 = Preprocess(size=28, crop=1.0, channels=1, mean=(0.5,), std=(0.5,))

_NORM = Knob("norm", ("none", "batch", "layer"))
_DROPOUT = Knob("dropout", default=0.0)
_ACTIVATION = Knob("activation", ("relu", "sigmoid", "tanh", "softplus"))
_INITIAL = Knob("initial", ("he", "glorot", "normal"))
_LECTURE = "Görner 2017, TensorFlow and Deep Learning without a PhD"


def _row(name: str, builder: str = "", **fields: Any) -> ModelSpec:
    """Return a row of small grey pictures in ten classes, where the fields say nothing else.

    builder: FILE.FUNCTION in zoo/models, both called as the row where it is empty. stages: names,
    blanks between. The year is that of the paper. What is measured (benchmarks/rows.py) is not
    there yet in a row that is begun.
    """
    known = {"family": name, "num_classes": 10, "preprocess": _GREY_28}
    measured = {"params": 0, "macs": 0, "cut": "", "head": ""}
    year = int(re.findall(r"\b[12]\d{3}\b", fields["paper"])[0])
    stages = tuple(fields.pop("stages", "").split())
    given = {**known, **measured, "year": year, "stages": stages, **fields}
    return ModelSpec(name=name, builder=f"zoo.models.{builder or f'{name}.{name}'}", **given)


def _detectors(name: str, params: int, activations: int, note: str) -> ModelSpec:
    return _row(
        name,
        f"local.{name}",
        family="local",
        paper="LeCun 1989, Generalization and Network Design Strategies",
        params=params,
        macs=1_199_104,
        activations=activations,
        stages="detect1 act1 detect2 act2 flatten fc1 act3 fc2",
        cut="act2",
        head="fc2",
        note=note,
    )


_MIRROR: dict[str, Any] = {
    "family": "autoencoder",
    "num_classes": 0,
    "cut": "bottleneck",
    "head": "",
    "code": "bottleneck",
    "task": "reconstruct",
    "variants": (Knob("code", most=784, default=32),),
}

LECTURES: tuple[ModelSpec, ...] = (
    _row(
        "perceptron",
        paper="Rosenblatt 1958, The Perceptron, Psychological Review 65(6)",
        params=7_850,
        macs=7_840,
        activations=3_176,
        stages="flatten fc",
        cut="flatten",
        head="fc",
        note="one dense layer, with softmax: logistic regression",
    ),
    _row(
        "mlp",
        "perceptron.mlp",
        family="perceptron",
        paper=_LECTURE,
        params=185_300,
        macs=184_900,
        activations=4_736,
        stages="flatten fc1 act1 fc2 act2 fc3 act3 fc4 act4 fc5",
        cut="act4",
        head="fc5",
        note="five dense layers: 784-200-100-60-30-10",
        variants=(
            _ACTIVATION,
            _NORM,
            _DROPOUT,
            _INITIAL,
        ),
    ),
    _row(
        "xo",
        paper="Rohrer 2016, How do Convolutional Neural Networks work?",
        params=56,
        macs=1_347,
        activations=1_500,
        num_classes=2,
        preprocess=replace(_FROM_BLACK_28, size=9),
        stages="conv1 act1 pool1 pool2 flatten fc",
        cut="pool2",
        head="fc",
        note="three filters of 3 x 3 tell an X from an O; `zoo train xo` draws its data",
        variants=(Knob("initial", ("random", "lecture")),),
    ),
    # Of the detectors alone: 940,032 parameters and 52,096.
    _detectors("local", 1_205_002, 80_960, "weights of their own at each place; `shared` 317,066"),
    _detectors("shared", 317_066, 40_000, "the same weights at each place; `local` has 1,205,002"),
    _row(
        "cnn",
        paper="TensorFlow's tutorial Deep MNIST for Experts, 2015",
        params=3_274_634,
        macs=13_883_904,
        activations=203_840,
        stages="conv1 act1 pool1 conv2 act2 pool2 flatten fc1 act3 dropout fc2",
        cut="flatten",  # behind the last of the layers, however many there are
        head="fc2",
        note="32 and 64 detectors of 5 x 5, 1024 dense units",
        variants=(
            Knob("kernels", most=512, several=True, default="32,64"),
            Knob("kernel", most=28, several=True, default="5"),
            Knob("padding", ("same", "valid")),
            Knob("stride", most=28, several=True, default="1"),
            Knob("window", most=28, several=True, default="2"),
            Knob("pooling", ("max", "average")),
            _ACTIVATION,
            Knob("dense", most=8192, default=1024),
            _NORM,
            replace(_DROPOUT, default=0.4),
            _INITIAL,
        ),
    ),
    _row(
        "dannet",
        paper="Ciresan et al. 2011, IJCAI; Ciresan et al. 2012, arXiv:1202.2745",
        params=76_040,
        macs=1_891_820,
        activations=165_376,
        stages="pad conv1 act1 pool1 conv2 act2 pool2 flatten fc1 act3 fc2",
        cut="pool2",
        head="fc2",
        preprocess=_FROM_BLACK_28,
        note="one column of the paper's 35: 29x29-20C4-MP2-40C5-MP3-150N-10N",
        variants=(Knob("activation", ("tanh", "relu")), _DROPOUT),
    ),
    _row(
        "rnn",
        "recurrent.rnn",
        family="recurrent",
        paper="Elman 1990, Finding Structure in Time, Cognitive Science 14(2)",
        params=21_514,
        macs=560_384,
        activations=32_320,
        stages="rows rnn fc",
        cut="rnn",
        head="fc",
        note="reads the picture row by row: 28 steps of 28 values",
        variants=(_DROPOUT,),
    ),
    _row(
        "lstm",
        "recurrent.lstm",
        family="recurrent",
        paper="Hochreiter, Schmidhuber 1997, Long Short-Term Memory, Neural Computation 9(8)",
        params=82_186,
        macs=2_237_696,
        activations=33_344,
        stages="rows lstm fc",
        cut="lstm",
        head="fc",
        note="reads the picture row by row; with the forget gate of 2000",
        variants=(_DROPOUT,),
    ),
    _row(
        "autoencoder",
        paper="Hinton, Salakhutdinov 2006, Reducing the Dimensionality of Data, Science 313",
        params=1_083_696,
        macs=1_081_344,
        activations=9_408,
        stages="flatten fc1 act1 fc2 act2 bottleneck fc3 act3 fc4 act4 fc5 sigmoid unflatten",
        note="dense, a code of 32 numbers",
        **_MIRROR,
    ),
    _row(
        "conv-autoencoder",
        "autoencoder.conv_autoencoder",
        paper="Masci et al. 2011, Stacked Convolutional Auto-Encoders, ICANN",
        params=115_217,
        macs=805_952,
        activations=28_224,
        stages=(
            "conv1 act1 conv2 act2 flatten bottleneck fc act3 unflatten deconv1 act4 "
            "deconv2 sigmoid"
        ),
        note="strided convolutions, a code of 32 numbers",
        **_MIRROR,
    ),
)
