"""Autoencoders: a picture through a bottleneck of few numbers, its code, and back to a picture.

Hinton, Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks", Science 313,
figure 1, with a narrower encoder (there 1000-500-250-30), ReLU and He initialisation for sigmoids
that were trained layer by layer as Boltzmann machines. The convolutional one has such a code, too:
strides take the picture apart and transposed convolutions put it together (Masci et al. 2011,
"Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction", ICANN, pools instead).

The code itself, what leaves `bottleneck`, is linear, as in the paper. (A stage cannot be called
`code`: torch.export makes attributes of stages, and its graphs have one of that name.) The decoder
ends in a sigmoid: values in [0, 1].
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from zoo.models.initial import he_forward_


def autoencoder(code: int = 32) -> nn.Sequential:
    """Dense: N 1 28 28 values in [0, 1] in, the same shape out; `bottleneck` gives N code."""
    stages = OrderedDict(
        flatten=nn.Flatten(),  #                         N 784
        fc1=nn.Linear(784, 512),  #                      N 512
        act1=nn.ReLU(),
        fc2=nn.Linear(512, 256),  #                      N 256
        act2=nn.ReLU(),
        bottleneck=nn.Linear(256, code),  #              N code
        fc3=nn.Linear(code, 256),  #                     N 256
        act3=nn.ReLU(),
        fc4=nn.Linear(256, 512),  #                      N 512
        act4=nn.ReLU(),
        fc5=nn.Linear(512, 784),  #                      N 784
        sigmoid=nn.Sigmoid(),
        unflatten=nn.Unflatten(1, (1, 28, 28)),  #       N 1 28 28
    )
    return he_forward_(nn.Sequential(stages))


def conv_autoencoder(code: int = 32) -> nn.Sequential:
    """Convolutional: N 1 28 28 values in [0, 1] in, the same shape out; the code is N code."""
    stages = OrderedDict(
        conv1=nn.Conv2d(1, 16, 3, stride=2, padding=1),  #             N 16 14 14
        act1=nn.ReLU(),
        conv2=nn.Conv2d(16, 32, 3, stride=2, padding=1),  #            N 32 7 7
        act2=nn.ReLU(),
        flatten=nn.Flatten(),  #                                       N 1568
        bottleneck=nn.Linear(32 * 7 * 7, code),  #                     N code
        fc=nn.Linear(code, 32 * 7 * 7),  #                             N 1568
        act3=nn.ReLU(),
        unflatten=nn.Unflatten(1, (32, 7, 7)),  #                      N 32 7 7
        deconv1=nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),  # N 16 14 14
        act4=nn.ReLU(),
        deconv2=nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),  #  N 1 28 28
        sigmoid=nn.Sigmoid(),
    )
    return he_forward_(nn.Sequential(stages))
