"""In which order a plain `zoo list` shows what there is, and which models are worth a first try.

Worth trying: networks of today in three sizes, convolutional ones and transformers, whose weights
are licensed for any use. They are a choice of ours; the table says what is known of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zoo.catalog.spec import ModelSpec

WORTH_TRYING = (
    "timm/mobilenetv4_conv_small.e2400_r224_in1k",  # small; convolutions
    "timm/efficientnet_b0.ra_in1k",
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",  # a transformer
    "timm/convnext_tiny.in12k_ft_in1k",  # medium
    "timm/deit3_small_patch16_224.fb_in22k_ft_in1k",
    "timm/vit_small_patch14_dinov2.lvd142m",  # features alone: it was trained without labels
    "timm/convnext_base.fb_in22k_ft_in1k",  # large
    "timm/vit_base_patch16_siglip_224.v2_webli",
)
CLASSIC = ("lenet", "alexnet", "vgg16", "vgg19", "googlenet", "resnet50")

Shelf = tuple[str, list[ModelSpec]]


def shelves(
    own: Mapping[str, ModelSpec], teaching: Iterable[str], others: Mapping[str, ModelSpec]
) -> list[Shelf]:
    """Return the rows of a plain list in groups, each with its heading; no row is in two."""
    known = [name for name in teaching if name not in CLASSIC]
    rest = [name for name in own if name not in (*CLASSIC, *known)]
    groups = (
        ("worth trying: small, medium, large; free for any use", WORTH_TRYING),
        ("the classics", CLASSIC),
        ("their other sizes", rest),
        ("for teaching", known),
    )
    rows = {**others, **own}
    return [(title, [rows[name] for name in names if name in rows]) for title, names in groups]
