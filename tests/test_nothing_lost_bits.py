"""What is frozen has the bits it came with, parameters and running statistics alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from kit import Watcher, carried_out, saved, settings, write_photos
from kit.hostile import inside

from zoo import network, weights
from zoo.engine.select import bf16
from zoo.finetune import begin
from zoo.finetune.prepare import prepare

DEEPER = [
    pytest.param(
        "resnet18",
        {"cut": "layer4.0", "size": 64},
        id="resnet18-inside-a-stage",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "googlenet",
        {"precision": "bf16"},
        id="googlenet-bf16",
        marks=pytest.mark.skipif(not bf16(), reason="this processor does not compute in bf16"),
    ),
    pytest.param(
        "mlp",
        {
            "variant": {"norm": "batch"},
            "cut": "act4",
            "unfreeze": "fc4@2,fc3@3",
            "epochs": 4,
            "views": 2,
        },
        id="mlp-unfrozen",
    ),
    pytest.param(
        "lenet",
        {"schedule": "head-then-all", "cut": "act3", "unfreeze": "conv3", "epochs": 3},
        id="lenet-head-then-all",
    ),
]
# Every family of the catalogue and of the libraries; a cut where the default one is the head.
MORE = [
    ("alexnet", {}), ("vgg16_bn", {}), ("googlenet", {}), ("googlenet-2014", {}),
    ("resnet18", {"cut": "layer3"}), ("resnet34", {}), ("resnet50", {"cut": "layer4.1"}),
    ("dannet", {}), ("cnn", {}), ("local", {}), ("shared", {}), ("lenet", {"cut": "conv2"}),
    ("mlp", {"variant": {"norm": "batch"}, "cut": "norm2"}), ("torchvision/mobilenet_v3_small", {}),
    ("torchvision/efficientnet_b0", {}), ("torchvision/densenet121", {}),
    ("torchvision/shufflenet_v2_x0_5", {}), ("torchvision/regnet_y_400mf", {}),
    ("torchvision/vit_b_16", {}), ("timm/mobilenetv2_100", {}), ("timm/convnext_atto", {}),
]  # fmt: skip


def frozen_is_kept(folder: Path, model: str, photos: Path, **values: object) -> None:
    """Fine-tunes, and compares all that was frozen to the end with where it came from."""
    chosen = settings(model, photos, **{"epochs": 2, "batch_size": 8, "lr": 0.01, **values})
    made = prepare(chosen)
    start = {name: tensor.clone() for name, tensor in made.network().chain.state_dict().items()}
    parts = made.parts(made.plan.phases[-1].cut)
    trained = {id(tensor) for tensor in parts.trainable.state_dict(keep_vars=True).values()}
    live = made.network().chain.state_dict(keep_vars=True)
    frozen = [name for name, tensor in live.items() if id(tensor) not in trained]
    assert frozen
    source = network.pretrained(model, chosen.weights, variant=chosen.variant, seed=chosen.seed)
    origin = source.chain.state_dict()
    carried_out(begin.start(made, folder, Watcher()))
    after = saved(folder)
    assert [name for name in frozen if not torch.equal(origin[name], after[name])] == []
    rest = set(after) - set(frozen)
    assert any(not torch.equal(start[name], after[name]) for name in rest)


@pytest.mark.parametrize(("model", "values"), DEEPER)
def test_frozen_tensors_and_statistics_have_the_bits_they_came_with(
    tmp_path, photos, model, values
):
    frozen_is_kept(tmp_path / "run", model, photos, **values)


def test_frozen_bits_of_a_published_network_stay_too(tmp_path, shared, monkeypatch):
    """Real weights, real photos: all but the head is what was published."""
    inside(monkeypatch)
    file = shared / "weights/squeezenet1_1-caffe.pth"
    for kind in ("ants", "bees"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for photo in sorted((shared / "data/hymenoptera/train" / kind).glob("*.jpg"))[:6]:
            shutil.copy(photo, tmp_path / "photos" / kind)
    frozen_is_kept(tmp_path / "run", "torchvision/squeezenet1_1", tmp_path / "photos",
                   weights=str(file), views=2)  # fmt: skip
    published, after = weights.read(file), saved(tmp_path / "run")
    kept = [name for name in published if name.startswith("features.")]
    assert len(kept) > 40
    assert all(torch.equal(published[name], after[name]) for name in kept)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "values"), MORE, ids=[name for name, _ in MORE])
def test_frozen_bits_of_20_more_networks_stay(tmp_path, model, values):
    photos = write_photos(tmp_path / "photos", ("disc", "square"), each=5)
    frozen_is_kept(tmp_path / "run", model, photos, **values)
