"""One contract for every row of the catalogue: the chain is what the row and torchvision say."""

from __future__ import annotations

import importlib
import inspect

import pytest
import torch
from kit import randomise_norms
from torch import nn

from zoo import catalog, models
from zoo.catalog import classes
from zoo.errors import UnknownModel, UnknownStage, UsageError
from zoo.models.chain import nothing_to_train, steps
from zoo.models.cut import cut
from zoo.models.lazy_compiler import library

library("torchvision")
torchvision_models = pytest.importorskip("torchvision.models")

TORCHVISION = [
    row.name for row in catalog.ROWS.values() if row.weights and "pytorch.org" in row.weights[0].url
]


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


def on_meta(row: catalog.ModelSpec, **variant: str | float) -> nn.Sequential:
    with torch.device("meta"):
        return models.build(row, variant=variant).eval()


def pictures(row: catalog.ModelSpec, count: int = 1) -> torch.Tensor:
    """Of the least size that the row's network takes."""
    side = min(row.preprocess.size, 64)  # which is AlexNet's
    return torch.rand(count, row.preprocess.channels, side, side)


def answer(row: catalog.ModelSpec) -> tuple[int, ...]:
    """The shape of what the network says of one picture."""
    side = row.preprocess.size
    pixels = (row.preprocess.channels, side, side)
    return pixels if row.task == "reconstruct" else (row.num_classes,)


def test_chain_is_plain_and_named_as_the_row_says(row, chain):
    assert type(chain) is nn.Sequential
    assert tuple(models.stages(chain)) == row.stages
    assert row.cut in row.stages
    # torch.export keeps stages as attributes of a GraphModule: `code` would be hidden by its own
    assert not any(hasattr(torch.fx.GraphModule, stage) for stage in row.stages)
    if row.task == "classify":
        head = chain.get_submodule(row.head)
        assert isinstance(head, nn.Linear)
        assert head.out_features == row.num_classes
        assert row.stages.index(row.cut) < row.stages.index(row.head.split(".")[0])
    else:
        assert (row.cut, row.head, row.num_classes) == (row.code, "", 0)
        assert isinstance(chain.get_submodule(row.code), nn.Linear)


def test_counts_are_the_measured_ones(row, chain):
    infos = models.describe(chain, row)
    assert sum(info.params for info in infos) == row.params
    assert sum(info.macs for info in infos) == row.macs
    assert infos[-1].shape == answer(row)
    assert not any(tensor.is_meta for tensor in chain.state_dict().values())


def test_cutting_at_every_stage_changes_nothing(row, chain):
    x = pictures(row)
    with torch.inference_mode():
        whole = chain(x.clone())
        assert torch.isfinite(whole).all()
        features = x
        for k in range(len(chain)):
            kept = features.clone()
            assert torch.equal(chain[k:](features), whole), f"cut before stage {k}"
            assert torch.equal(features, kept), f"stage {k} overwrites its input"
            features = chain[k : k + 1](features)
        assert torch.equal(features, whole)


def test_the_rows_cut_freezes_what_is_before_it_and_leaves_something_to_train(row):
    parts = cut(on_meta(row).train(), row.cut)
    parts.freeze()
    assert not any(part.training for part in parts.frozen.modules())
    assert not nothing_to_train(steps(parts.trainable)[0][1]), "it could run frozen, too"
    assert (*models.stages(parts.frozen), *models.stages(parts.trainable)) == row.stages
    assert row.cut in models.stages(parts.frozen)
    assert not any(parameter.requires_grad for parameter in parts.frozen.parameters())
    assert any(parameter.requires_grad for parameter in parts.trainable.parameters())


@pytest.mark.parametrize("row", TORCHVISION, indirect=True)
def test_chain_equals_torchvision(row, chain):
    model = reference(row.name, chain)
    assert list(chain.state_dict()) == list(model.state_dict())
    x = torch.randn(2, 3, 96, 96)  # sizes at 224 are tested with the counts
    with torch.inference_mode():
        assert torch.equal(chain(x.clone()), model(x.clone()))


def test_own_chain_can_be_built_without_data_and_filled(row, chain):
    twin = on_meta(row)
    twin.load_state_dict(chain.state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in (*twin.parameters(), *twin.buffers()))
    x = pictures(row, 2)
    with torch.inference_mode():
        assert torch.equal(twin(x), chain(x))


def switches(row: catalog.ModelSpec) -> list[dict[str, str | float]]:
    """Each variant by itself, and the last of all of them together."""
    each = [
        (knob.name, choice)
        for knob in row.variants
        for choice in knob.choices or ((2,) if knob.most else (0.5,))
    ]
    return [{name: choice} for name, choice in each] + [dict(each)]


def test_every_variant_builds_and_runs(row):
    for variant in (catalog.check_variant(row, each) for each in switches(row)):
        chain = on_meta(row, **variant)
        names = models.stages(chain)
        assert row.cut in names, variant
        if row.task == "classify":
            assert isinstance(chain.get_submodule(row.head), nn.Linear), variant
        assert models.describe(chain, row)[-1].shape == answer(row), variant
        if row.preprocess.size <= 32:
            chain = models.build(row, variant=variant).train()
            assert torch.isfinite(chain(pictures(row, 2))).all(), variant


def test_the_first_choice_of_every_variant_is_the_builders_default(row):
    module, function = row.builder.rsplit(".", 1)
    parameters = dict(
        inspect.signature(getattr(importlib.import_module(module), function)).parameters
    )
    classes = parameters.pop("num_classes", None)
    assert (classes is None) == (row.task == "reconstruct")
    assert classes is None or classes.default == row.num_classes
    assert {name: one.default for name, one in parameters.items()} == {
        knob.name: knob.usual for knob in row.variants
    }
    if not row.variants:
        return
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    same = on_meta(row, **catalog.check_variant(row, defaults))
    assert list(same.state_dict()) == list(on_meta(row).state_dict())
    assert sum(info.params for info in models.describe(same, row)) == row.params
    assert sum(info.macs for info in models.describe(same, row)) == row.macs


def test_a_variant_that_a_row_lacks_is_refused():
    row = catalog.find("mlp")
    with pytest.raises(UsageError, match="mlp has no variant 'activations'") as error:
        catalog.check_variant(row, {"activations": "relu"})
    assert "activation, norm, dropout, initial" in error.value.hint
    with pytest.raises(UsageError, match="activation = 'gelu' for mlp") as error:
        catalog.check_variant(row, {"activation": "gelu"})
    assert "relu, sigmoid, tanh, softplus" in error.value.hint
    with pytest.raises(UsageError, match="dropout = 1 for mlp"):
        catalog.check_variant(row, {"dropout": 1})
    with pytest.raises(UsageError, match="vgg16_bn has no variant 'norm'"):
        catalog.check_variant(catalog.find("vgg16_bn"), {"norm": "batch"})
    with pytest.raises(UsageError, match="alexnet has no variant 'norm'") as error:
        catalog.check_variant(catalog.find("alexnet"), {"norm": "batch"})
    assert error.value.hint == "it has none: leave it out"


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


@pytest.mark.parametrize("name", TORCHVISION)
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


@pytest.mark.parametrize(
    ("slip", "near"),
    [
        ("rezn", "resnet50"), ("reznet", "resnet50"), ("mobilnet", "mobilenet_v2"),
        ("mobilenet_v3", "mobilenet_v3_large"), ("inception", "inception_v3"),
        ("dinov2", "vit_base_patch14_dinov2"), ("efficientnet-b0", "efficientnet_b0"),
    ],
)  # fmt: skip
def test_the_beginning_and_a_part_of_a_name_are_near_to_it(slip: str, near: str):
    with pytest.raises(UnknownModel, match=f"did you mean .*{near}[,?]"):
        catalog.find(slip)


@pytest.mark.parametrize("word", ["qqqq", "wombats", ""])
def test_what_is_like_no_name_has_no_nearest(word: str):
    with pytest.raises(UnknownModel) as error:
        catalog.find(word)
    assert "did you mean" not in error.value.what


def test_find_names_the_nearest():
    with pytest.raises(UnknownModel, match=r"'resnet51'; did you mean .*resnet50") as error:
        catalog.find("resnet51")
    assert "zoo list" in error.value.hint
    with pytest.raises(UnknownModel, match="'ResNet50'; did you mean resnet50"):
        models.resolve("ResNet50")


def test_a_place_on_the_disk_is_told_from_a_name(tmp_path):
    with pytest.raises(UnknownModel) as error:
        catalog.find(str(tmp_path))
    assert "a model of `zoo list` or a run comes first" in error.value.hint
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UnknownModel) as error:
        catalog.find(str(tmp_path))
    assert f"--weights {tmp_path}" in error.value.hint


def test_a_cut_that_leaves_nothing_is_answered_by_those_that_do():
    row = catalog.find("lenet")
    chain = models.build(row)
    with pytest.raises(UnknownStage) as error:
        cut(chain, "fc2")
    assert error.value.hint.endswith("fc1, act4")


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({"pattern": "vgg16*"}, ["vgg16", "vgg16_bn"]),
        ({"pattern": "_BN"}, ["vgg16_bn", "vgg19_bn"]),
        ({"pattern": "nothing*"}, []),
        ({"family": "lenet"}, ["lenet"]),
        ({"max_params": 11_689_512, "min_acc1": 1}, ["googlenet", "googlenet-2014", "resnet18"]),
        ({"family": "autoencoder"}, ["autoencoder", "conv-autoencoder"]),
        ({"min_acc1": 76.13}, ["resnet50", "resnet101", "resnet152"]),
        ({"licence": "bsd", "family": "alexnet"}, ["alexnet"]),
        ({"licence": "cc-by-nc"}, []),
        ({"family": "resnet", "sort": "acc1", "max_params": 30_000_000},
         ["resnet50", "resnet34", "resnet18"]),
        ({"pattern": "resnet*", "sort": "name"},
         ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"]),
    ],
)  # fmt: skip
def test_search(conditions, found):
    assert [row.name for row in catalog.search(**conditions)] == found


def test_search_sorts_all_rows_by_every_key():
    for key in catalog.SORT_KEYS:
        assert len(catalog.search(sort=key)) == len(catalog.ROWS)
    assert not catalog.search(sort="acc1")[-1].weights
    assert catalog.search(sort="year")[0].name == "perceptron"
    assert catalog.search(sort="params")[0].name == "xo"
    assert catalog.search(sort="macs")[-1].name.startswith("vgg19")
    unknown = {"googlenet-2014"}  # `unrestricted use` is no licence's name
    assert {row.name for row in catalog.search(licence="permissive")} >= {*catalog.ROWS} - unknown
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
