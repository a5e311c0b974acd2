"""The zoo's own networks: LeNet, AlexNet, VGG, GoogLeNet, ResNet, with torchvision's weights.

All parameters, multiply-adds and activations are counted on the chains (`python -m benchmarks.rows`
prints them, a test counts them again); accuracies are torchvision's, for the weights and the
Preprocess named beside them, and so are the lengths of files, in mebibytes.
"""

from __future__ import annotations

from dataclasses import replace

from zoo.catalog.spec import Knob, ModelSpec, Preprocess, Weights

_VISION = "https://github.com/pytorch/vision"
_RECIPES = f"{_VISION}/tree/main/references/classification"

_STANDARD = Preprocess()  # resize to 256, centre 224, ImageNet's mean and std
_RESIZE_232 = Preprocess(crop=224 / 232)
_GREY_32 = Preprocess(size=32, crop=1.0, channels=1, mean=(0.5,), std=(0.5,))
# What `transform_input` does inside torchvision's GoogLeNet, done to the pixels.
_HALVES = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _torchvision(
    tag: str,
    file: str,
    numbers: tuple[float, float, float],
    source: str,
    preprocess: Preprocess = _STANDARD,
) -> Weights:
    """Describe a file of torchvision's. numbers: acc1, acc5, and its length (`_file_size`)."""
    acc1, acc5, mebibytes = numbers
    return Weights(
        tag=tag,
        url=f"https://download.pytorch.org/models/{file}",
        file=file,
        sha256=file.removesuffix(".pth").rpartition("-")[2],
        acc1=acc1,
        acc5=acc5,
        licence="BSD-3-Clause",
        source=source,
        preprocess=preprocess,
        mebibytes=mebibytes,
    )


def _v1(
    file: str,
    numbers: tuple[float, float, float],
    recipe: str = "resnet",
    preprocess: Preprocess = _STANDARD,
) -> Weights:
    return _torchvision("imagenet1k_v1", file, numbers, f"{_RECIPES}#{recipe}", preprocess)


def _v2(file: str, numbers: tuple[float, float, float], recipe: str) -> Weights:
    """Return weights of torchvision's newer recipe, always the second choice here.

    More accurate on ImageNet and worse to transfer with a frozen backbone: label smoothing, mixup
    and cutmix squeeze classes together and what a new head would tell apart is lost (Kornblith et
    al. 2021, "Why Do Better Loss Functions Lead to Less Transferable Features?", arXiv:2010.16402).
    """
    source = f"{_VISION}/issues/3995#{recipe}"
    return _torchvision("imagenet1k_v2", file, numbers, source, _RESIZE_232)


LENET = ModelSpec(
    name="lenet",
    family="lenet",
    builder="zoo.models.lenet.lenet",
    paper="LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
    year=1998,
    params=61_706,
    macs=416_520,
    activations=41_728,
    stages=(
        *("conv1", "act1", "pool1", "conv2", "act2", "pool2"),
        *("conv3", "act3", "flatten", "fc1", "act4", "fc2"),
    ),
    cut="pool2",  # conv3 (C5) sees the whole map at once: a dense layer in all but name
    head="fc2",
    num_classes=10,
    preprocess=_GREY_32,
    weights=(
        Weights(
            tag="mnist",
            url="",
            file="lenet-mnist.safetensors",  # lies in zoo/weights/shipped
            sha256="11960a6e7216b649ab7e29efb013e9921b5261a7772756f2284be599f5831d71",
            bytes=247_616,
            classes="",
            licence="Apache-2.0",
            source="recipes/lenet-mnist.toml",
            preprocess=_GREY_32,
        ),
    ),
    note="grey 32 x 32; ReLU and max-pooling for the paper's tanh and trainable averages",
    variants=(
        Knob("activation", ("relu", "tanh")),
        Knob("pooling", ("max", "average")),
        Knob("connections", ("full", "table")),
    ),
)

ALEXNET = ModelSpec(
    name="alexnet",
    family="alexnet",
    builder="zoo.models.alexnet.alexnet",
    paper="Krizhevsky et al. 2012, ImageNet Classification with Deep CNNs; arXiv:1404.5997",
    year=2012,
    params=61_100_840,
    macs=714_188_480,
    activations=2_150_912,
    stages=("features", "avgpool", "flatten", "classifier"),
    cut="features",
    head="classifier.6",
    weights=(_v1("alexnet-owt-7be5be79.pth", (56.522, 79.066, 233.087), "alexnet-and-vgg"),),
    note="the one-tower variant of 2014, without local response normalisation",
)


def _vgg(name: str, params: int, macs: int, weights: Weights) -> ModelSpec:
    normed = name.endswith("_bn")
    return ModelSpec(
        name=name,
        family="vgg",
        builder=f"zoo.models.vgg.{name}",
        paper="Simonyan, Zisserman 2014, Very Deep Convolutional Networks, arXiv:1409.1556",
        year=2014,
        params=params,
        macs=macs,
        activations=26_292_736 if normed else 26_292_224,  # 64 x 224 x 224, in and out of a layer
        stages=("features", "avgpool", "flatten", "classifier"),
        cut="features",
        head="classifier.6",
        # torchvision's IMAGENET1K_FEATURES of vgg16 is left out: its classifier is all NaN.
        weights=(weights,),
        note="with BatchNorm, younger than the paper" if normed else "",
        variants=() if normed else (Knob("norm", ("none", "batch", "layer")),),
    )


VGGS = (
    _vgg(
        "vgg16",
        138_357_544,
        15_470_264_320,
        _v1("vgg16-397923af.pth", (71.592, 90.382, 527.796), "alexnet-and-vgg"),
    ),
    _vgg(
        "vgg16_bn",
        138_365_992,
        15_470_264_320,
        _v1("vgg16_bn-6c64b313.pth", (73.36, 91.516, 527.866), "alexnet-and-vgg"),
    ),
    _vgg(
        "vgg19",
        143_667_240,
        19_632_062_464,
        _v1("vgg19-dcbb9e9d.pth", (72.376, 90.876, 548.051), "alexnet-and-vgg"),
    ),
    _vgg(
        "vgg19_bn",
        143_678_248,
        19_632_062_464,
        _v1("vgg19_bn-c79401a0.pth", (74.218, 91.842, 548.143), "alexnet-and-vgg"),
    ),
)

GOOGLENET = ModelSpec(
    name="googlenet",
    family="googlenet",
    builder="zoo.models.googlenet.googlenet",
    paper="Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842",
    year=2014,
    params=6_624_904,
    macs=1_498_376_192,
    activations=7_025_152,
    stages=(
        *("conv1", "maxpool1", "conv2", "conv3", "maxpool2"),
        *("inception3a", "inception3b", "maxpool3"),
        *("inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4"),
        *("inception5a", "inception5b", "avgpool", "flatten", "dropout", "fc"),
    ),
    cut="inception5b",
    head="fc",
    preprocess=_HALVES,
    weights=(_v1("googlenet-1378be20.pth", (69.778, 89.53, 49.731), "googlenet", _HALVES),),
    ignore=("aux1.", "aux2."),
    note="with BatchNorm; its 5x5 branches are 3x3, as in the published weights",
)

# Nobody publishes the file in this form: it has to be given. The accuracies are those of Caffe's
# readme, probably of pictures that were squashed to 256 x 256 before the centre was taken.
_BVLC = Weights(
    tag="bvlc",
    url="",
    file="googlenet_bvlc.safetensors",
    sha256="0d4fa028fee68f45cfc53774636d30432b1f3dd6f09b1db6a70363dd55b8d6e3",
    bytes=28_003_976,
    acc1=68.7,
    acc5=88.9,
    licence="unrestricted use",
    source="https://github.com/BVLC/caffe/tree/master/models/bvlc_googlenet",
)

GOOGLENET_2014 = ModelSpec(
    name="googlenet-2014",
    family="googlenet",
    builder="zoo.models.googlenet_2014.googlenet_2014",
    paper="Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842",
    year=2014,
    params=6_998_552,
    macs=1_582_671_872,
    activations=10_235_904,
    stages=(
        *("conv1", "relu1", "maxpool1", "norm1"),
        *("reduce2", "relu2", "conv2", "relu3", "norm2", "maxpool2"),
        *("inc3a", "inc3b", "maxpool3"),
        *("inc4a", "inc4b", "inc4c", "inc4d", "inc4e", "maxpool4"),
        *("inc5a", "inc5b", "avgpool", "flatten", "dropout", "fc"),
    ),
    cut="inc5b",
    head="fc",
    weights=(_BVLC,),
    note="as in the paper: 5x5 branches, normalised responses, no BatchNorm",
    auxiliary="zoo.models.googlenet_2014.with_auxiliary",
)


def _resnet(name: str, params: int, macs: int, *weights: Weights) -> ModelSpec:
    bottleneck = name not in ("resnet18", "resnet34")
    return ModelSpec(
        name=name,
        family="resnet",
        builder=f"zoo.models.resnet.{name}",
        paper="He et al. 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385",
        year=2015,
        params=params,
        macs=macs,
        activations=11_843_584 if bottleneck else 7_025_152,  # of layer1; of bn1
        stages=(
            *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
            *("avgpool", "flatten", "fc"),
        ),
        cut="layer4",
        head="fc",
        weights=weights,
        note="v1.5: stride in the 3x3 convolution" if bottleneck else "",
        variants=(Knob("shortcut", ("added", "none")),),
    )


RESNETS = (
    _resnet(
        "resnet18",
        11_689_512,
        1_814_073_344,
        _v1("resnet18-f37072fd.pth", (69.758, 89.078, 44.661)),
    ),
    _resnet(
        "resnet34", 21_797_672, 3_663_761_408, _v1("resnet34-b627a593.pth", (73.314, 91.42, 83.275))
    ),
    _resnet(
        "resnet50",
        25_557_032,
        4_089_184_256,
        _v1("resnet50-0676ba61.pth", (76.13, 92.862, 97.781)),
        _v2("resnet50-11ad3fa6.pth", (80.858, 95.434, 97.79), "issuecomment-1013906621"),
    ),
    _resnet(
        "resnet101",
        44_549_160,
        7_801_405_440,
        _v1("resnet101-63fe2227.pth", (77.374, 93.546, 170.511)),
        _v2("resnet101-cd907fc2.pth", (81.886, 95.78, 170.53), "new-recipe"),
    ),
    _resnet(
        "resnet152",
        60_192_808,
        11_513_626_624,
        _v1("resnet152-394f9c45.pth", (78.312, 94.046, 230.434)),
        _v2("resnet152-f82ba261.pth", (82.284, 96.002, 230.474), "new-recipe"),
    ),
    replace(
        _resnet("resnet200", 64_673_832, 15_007_481_856),
        paper="He et al. 2016, Identity Mappings in Deep Residual Networks, arXiv:1603.05027",
        year=2016,
        note="v1.5, norm and ReLU after each convolution: the paper's better form has them before",
    ),
)

CLASSICS: tuple[ModelSpec, ...] = (
    LENET,
    ALEXNET,
    *VGGS,
    GOOGLENET,
    GOOGLENET_2014,
    *RESNETS,
)
