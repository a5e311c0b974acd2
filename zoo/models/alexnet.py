"""AlexNet in its one-tower form: the only wide kernels of the zoo, 11 x 11 at stride 4.

Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS, figure 2. Published weights are of the later one-tower variant (Krizhevsky 2014,
"One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997, footnote 1):
64-192-384-256-256 filters for the paper's 96-256-384-384-256 on two GPUs, no local response
normalisation. As in torchvision, whose names and order these are, the picture is 224 with padding
2 (the paper's 227 without) and dropout comes before the dense layers.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from zoo.models.initial import he_normal_


def alexnet(num_classes: int = 1000) -> nn.Sequential:
    """AlexNet, one tower: N 3 224 224 in, N K class scores out."""
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),  # N 64 55 55
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  #                 N 64 27 27
        nn.Conv2d(64, 192, 5, padding=2),  #          N 192 27 27
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  #                 N 192 13 13
        nn.Conv2d(192, 384, 3, padding=1),  #         N 384 13 13
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),  #         N 256 13 13
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),  #         N 256 13 13
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  #                 N 256 6 6
    )
    classifier = nn.Sequential(
        nn.Dropout(0.5),
        nn.Linear(256 * 6 * 6, 4096),  # N 4096
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),  #        N 4096
        nn.ReLU(),
        nn.Linear(4096, num_classes),  # N K
    )
    stages = OrderedDict(
        features=features,  #                  N 256 6 6
        avgpool=nn.AdaptiveAvgPool2d((6, 6)),  # N 256 6 6: changes nothing at 224
        flatten=nn.Flatten(),  #               N 9216
        classifier=classifier,  #              N K
    )
    return he_normal_(nn.Sequential(stages))
