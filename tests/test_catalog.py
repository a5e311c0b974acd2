"""One contract for every row of the catalogue: the chain is what the row and torchvision say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo import catalog, models
from zoo.catalog import classes
from zoo.errors import UnknownModel, UsageError

torchvision_models = pytest.importorskip("torchvision.models")

IMAGENET = [name for name in catalog.ROWS if name != "lenet"]


def randomise_norms(module: nn.Module) -> None:
    """Statistics as after training: with the initial 0 and 1, BatchNorm hides its mistakes."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean.normal_(0.0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)


def reference(name: str, chain: nn.Sequential, **options: object) -> nn.Module:
    """torchvision's model around the chain's own tensors."""
    if name == "googlenet":
        options = {"aux_logits": False, "init_weights": False, **options}
    with torch.device("meta"):
        model = torchvision_models.get_model(name, weights=None, **options)
    model.load_state_dict(chain.state_dict(), assign=True)
    return model.eval()


@pytest.fixture(scope="module", params=list(catalog.ROWS))
def row(request: pytest.FixtureRequest) -> catalog.ModelSpec:
    return catalog.find(request.param)


@pytest.fixture(scope="module")
def chain(row: catalog.ModelSpec) -> nn.Sequential:
    torch.manual_seed(0)
    chain = models.build(row).eval()
    randomise_norms(chain)
    return chain


def test_chain_is_plain_and_named_as_the_row_says(row, chain):
    assert type(chain) is nn.Sequential
    assert tuple(models.stages(chain)) == row.stages
    assert row.cut in row.stages
    head = chain.get_submodule(row.head)
    assert isinstance(head, nn.Linear)
    assert head.out_features == row.num_classes
    assert row.stages.index(row.cut) < row.stages.index(row.head.split(".")[0])


def test_counts_are_the_measured_ones(row, chain):
    infos = models.describe(chain, row)
    assert sum(info.params for info in infos) == row.params
    assert sum(info.macs for info in infos) == row.macs
    assert infos[-1].shape == (row.num_classes,)
    assert not any(tensor.is_meta for tensor in chain.state_dict().values())


def test_cutting_at_every_stage_changes_nothing(row, chain):
    side = 32 if row.name == "lenet" else 64  # the least that AlexNet takes
    x = torch.randn(1, row.preprocess.channels, side, side)
    with torch.inference_mode():
        whole = chain(x.clone())
        features = x
        for k in range(len(chain)):
            kept = features.clone()
            assert torch.equal(chain[k:](features), whole), f"cut before stage {k}"
            assert torch.equal(features, kept), f"stage {k} overwrites its input"
            features = chain[k : k + 1](features)
        assert torch.equal(features, whole)


def test_chain_equals_torchvision(row, chain):
    if row.name == "lenet":
        pytest.skip("torchvision has no LeNet")
    model = reference(row.name, chain)
    assert list(chain.state_dict()) == list(model.state_dict())
    x = torch.randn(2, 3, 96, 96)  # sizes at 224 are tested with the counts
    with torch.inference_mode():
        assert torch.equal(chain(x.clone()), model(x.clone()))


def test_own_chain_can_be_built_without_data_and_filled(row, chain):
    with torch.device("meta"):
        twin = models.build(row)
    twin.load_state_dict(chain.state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in (*twin.parameters(), *twin.buffers()))


def test_googlenet_reads_pixels_as_torchvision_does_after_transform_input():
    row = catalog.find("googlenet")
    torch.manual_seed(0)
    chain = models.build(row).eval()
    randomise_norms(chain)
    model = reference("googlenet", chain, transform_input=True)
    pixels = torch.rand(1, 3, 224, 224)
    standard = catalog.Preprocess()

    def normalised(how: catalog.Preprocess) -> torch.Tensor:
        mean, std = torch.tensor(how.mean), torch.tensor(how.std)
        return (pixels - mean[:, None, None]) / std[:, None, None]

    with torch.inference_mode():
        theirs = model(normalised(standard))
        ours = chain(normalised(row.weights[0].preprocess))
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", IMAGENET)
def test_weights_are_torchvisions(name):
    members = {
        member.name.lower(): member
        for member in torchvision_models.get_model_weights(name)
        if member.name != "IMAGENET1K_FEATURES"  # vgg16 for detectors: its classifier is NaN
    }
    row = catalog.find(name)
    assert [weights.tag for weights in row.weights] == sorted(members)  # v1 first: see classics.py
    for weights in row.weights:
        member = members[weights.tag]
        metrics = member.meta["_metrics"]["ImageNet-1K"]
        assert weights.url == member.url
        assert weights.url.endswith(f"/{weights.file}")
        assert weights.file.endswith(f"-{weights.sha256}.pth")
        assert len(weights.sha256) == 8
        assert (weights.acc1, weights.acc5) == (metrics["acc@1"], metrics["acc@5"])
        assert weights.source == member.meta["recipe"]
        assert weights.licence == "BSD-3-Clause"
        assert classes.names(weights.classes) == tuple(member.meta["categories"])
        transforms, ours = member.transforms(), weights.preprocess
        assert [ours.size] == transforms.crop_size
        assert ours.crop == ours.size / transforms.resize_size[0]
        assert ours.interpolation == transforms.interpolation.value
        if name != "googlenet":  # there transform_input is part of it: tested above
            assert list(ours.mean) == transforms.mean
            assert list(ours.std) == transforms.std


def test_find_names_the_nearest():
    with pytest.raises(UnknownModel, match=r"'resnet51'; did you mean .*resnet50") as error:
        catalog.find("resnet51")
    assert "zoo list" in error.value.hint
    with pytest.raises(UnknownModel, match="'ResNet50'; did you mean resnet50"):
        models.resolve("ResNet50")


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({"pattern": "vgg16*"}, ["vgg16", "vgg16_bn"]),
        ({"pattern": "_BN"}, ["vgg16_bn", "vgg19_bn"]),
        ({"pattern": "nothing*"}, []),
        ({"family": "lenet"}, ["lenet"]),
        ({"max_params": 11_689_512}, ["lenet", "googlenet", "resnet18"]),
        ({"min_acc1": 76.13}, ["resnet50", "resnet101", "resnet152"]),
        ({"licence": "bsd", "family": "alexnet"}, ["alexnet"]),
        ({"licence": "cc-by-nc"}, []),
        ({"family": "resnet", "sort": "acc1", "max_params": 30_000_000},
         ["resnet50", "resnet34", "resnet18"]),
        ({"pattern": "resnet*", "sort": "name"},
         ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]),
    ],
)  # fmt: skip
def test_search(conditions, found):
    assert [row.name for row in catalog.search(**conditions)] == found


def test_search_sorts_all_rows_by_every_key():
    for key in catalog.SORT_KEYS:
        assert len(catalog.search(sort=key)) == len(catalog.ROWS)
    assert catalog.search(sort="acc1")[-1].name == "lenet"
    assert catalog.search(sort="year")[0].name == "lenet"
    assert catalog.search(sort="macs")[-1].name.startswith("vgg19")
    assert len(catalog.search(licence="permissive")) == len(catalog.ROWS)
    with pytest.raises(UsageError, match="cannot sort by 'param'; did you mean params") as error:
        catalog.search(sort="param")
    assert "name, family, year, params, macs, acc1" in error.value.hint


def test_class_names():
    names = classes.names("imagenet1k")
    assert len(names) == len(set(names)) == 1000
    assert names == tuple(torchvision_models.AlexNet_Weights.DEFAULT.meta["categories"])
    wnids = classes.wnids("imagenet1k")
    assert len(wnids) == 1000
    assert list(wnids) == sorted(set(wnids))
    assert (wnids[0], names[0]) == ("n01440764", "tench")
    with pytest.raises(UsageError, match="no list of class names 'imagenet2k'"):
        classes.names("imagenet2k")
