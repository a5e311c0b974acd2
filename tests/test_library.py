"""The adapters: a library's classifier becomes a chain that is equal to it, or a clear refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from kit import randomise_norms
from torch import Tensor, nn

from zoo import models
from zoo.catalog import ModelSpec, Preprocess
from zoo.catalog.spec import published_name
from zoo.errors import UnknownModel, UsageError
from zoo.models import library, structure
from zoo.models.cut import cut
from zoo.models.sides import feature_shape

# Name, first and last stages, default cut, head.
CHAINS = [
    ("torchvision/squeezenet1_1", "features classifier flatten", "features", "classifier.1"),
    pytest.param(
        "torchvision/mobilenet_v2",
        "features avgpool flatten classifier",
        "features",
        "classifier.1",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "torchvision/efficientnet_b0",
        "features avgpool flatten classifier",
        "features",
        "classifier.1",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "torchvision/convnext_tiny",
        "features avgpool classifier",
        "classifier.1",
        "classifier.2",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "torchvision/resnet18",
        "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool flatten fc",
        "layer4",
        "fc",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "torchvision/vit_b_16",
        "embed blocks norm pool head",
        "norm",
        "head",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "timm/mobilenetv2_100",
        "conv_stem bn1 blocks conv_head bn2 global_pool classifier",
        "bn2",
        "classifier",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "timm/resnet18",
        "conv1 bn1 act1 maxpool layer1 layer2 layer3 layer4 global_pool fc",
        "layer4",
        "fc",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "timm/efficientnet_b0",
        "conv_stem bn1 blocks conv_head bn2 global_pool classifier",
        "bn2",
        "classifier",
        marks=pytest.mark.slow,
    ),
    ("timm/test_vit", "embed blocks norm pool head", "norm", "head"),
    pytest.param(
        *("timm/vit_tiny_patch16_224", "embed blocks norm pool head", "norm", "head"),
        marks=pytest.mark.slow,
    ),
    ("timm/convnext_atto", "stem stages norm_pre pool head", "pool", "head"),
    pytest.param(
        *("timm/swin_tiny_patch4_window7_224", "patch_embed layers norm pool head", "norm", "head"),
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "torchvision/vgg11",
        "features avgpool flatten classifier",
        "classifier.5",
        "classifier.6",
        marks=pytest.mark.slow,
    ),
]
LONG_CHAINS = [  # as above, without the stages between
    ("torchvision/googlenet", "conv1", "avgpool flatten dropout fc", "inception5b"),
    ("torchvision/inception_v3", "Conv2d_1a_3x3", "avgpool dropout flatten fc", "Mixed_7c"),
]


@cache
def shared() -> Path:
    """The folder of real weights that lies beside the project on some machines."""
    root = Path(__file__).resolve().parent.parent
    return Path(os.environ.get("ZOO_SHARED", root.parent / "shared"))


def published(spec: ModelSpec, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A library's tensors under the chain's names."""
    names = models.build(spec).state_dict()
    return {name: state[published_name(name, spec.published)] for name in names}


def assert_equal_to_the_library(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    model = library._construct(spec.name, spec.num_classes).eval()
    randomise_norms(model)
    chain = models.build(spec).eval()
    chain.load_state_dict(published(spec, model.state_dict()), strict=True)
    assert type(chain) is nn.Sequential
    assert tuple(models.stages(chain)) == spec.stages
    side = spec.preprocess.size if spec.published else 128  # a split may have a fixed size
    x = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        assert torch.equal(chain(x.clone()), model(x.clone()))
    assert sum(p.numel() for p in model.parameters()) == spec.params


@pytest.mark.parametrize(("name", "stages", "cut", "head"), CHAINS)
def test_library_model_becomes_an_equal_chain(name, stages, cut, head):
    spec = models.resolve(name)
    assert (" ".join(spec.stages), spec.cut, spec.head) == (stages, cut, head)
    assert models.resolve(name) is spec
    assert_equal_to_the_library(spec)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "first", "last", "cut"), LONG_CHAINS)
def test_inceptions_leave_auxiliary_heads_and_the_rescaling_out(name, first, last, cut):
    spec = models.resolve(name)
    assert spec.stages[0] == first
    assert " ".join(spec.stages).endswith(last)
    assert (spec.cut, spec.head) == (cut, "fc")
    assert spec.ignore
    assert spec.preprocess.mean == spec.preprocess.std == (0.5, 0.5, 0.5)
    assert_equal_to_the_library(spec)


def test_stages_that_are_no_children_say_what_files_call_their_tensors():
    def in_file(model: str, tensor: str) -> str:
        return published_name(tensor, models.resolve(model).published)

    assert in_file("timm/resnet18", "layer1.0.bn1.weight") == "layer1.0.bn1.weight"
    vit = "timm/test_vit"
    assert in_file(vit, "embed.cls_token") == "cls_token"
    assert in_file(vit, "blocks.1.attn.qkv.weight") == "blocks.1.attn.qkv.weight"
    assert in_file("timm/convnext_atto", "pool.norm.weight") == "head.norm.weight"
    assert in_file("timm/convnext_atto", "head.weight") == "head.fc.weight"


@pytest.mark.slow  # of 86 million numbers
def test_stages_of_a_torchvision_transformer_say_what_files_call_their_tensors():
    published = models.resolve("torchvision/vit_b_16").published
    theirs = "encoder.layers.encoder_layer_3.ln_1.weight"
    assert published_name("blocks.3.ln_1.weight", published) == theirs
    assert published_name("head.bias", published) == "heads.head.bias"


class Toy(nn.Module):
    """A body and a head, joined in a way that only running it can tell."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.head = nn.Linear(4, 5)
        self.how = how
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.body(x)
        if self.how == "hidden relu":
            x = x.relu()
        if self.how == "keeps a constant":
            self.kept = torch.ones_like(x) if self.kept is None else self.kept
            x = x * self.kept
        x = self.pool(x).flatten(1)
        if self.how == "hidden dropout":
            x = nn.functional.dropout(x, 0.5, training=self.training)
        x = self.head(x)
        if self.how == "scaled":
            x = x * 2
        return (x, x) if self.how == "pair" else x


def toy_structure(how: str) -> structure.Structure:
    def make() -> nn.Module:
        with torch.device("meta"):
            return Toy(how)

    return structure.find_structure(make, None, 5, Preprocess(size=8))


def test_a_chain_is_proved_and_not_guessed():
    assert toy_structure("plain").stages == ("body", "pool", "flatten", "head")
    for how in ("hidden relu", "hidden dropout", "keeps a constant"):
        found = toy_structure(how)
        assert (found.stages, found.cut, found.head) == (("backbone", "head"), "backbone", "head")
    with pytest.raises(structure.NotAChain, match="more than its last layer"):
        toy_structure("scaled")
    with pytest.raises(structure.NotAChain, match="a tuple and not one tensor"):
        toy_structure("pair")


@pytest.mark.parametrize("drops", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["ClassifierHead", "NormMlpClassifierHead"])
def test_a_dropout_in_a_librarys_head_is_a_stage_so_that_features_are_pooled(kind, drops):
    import timm.layers

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3)
            self.head = getattr(timm.layers, kind)(4, 5, drop_rate=drops)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))  # type: ignore[no-any-return]

    def make() -> nn.Module:
        with torch.device("meta"):
            return Net()

    picture = Preprocess(size=8)
    found = structure.find_structure(make, "head.fc", 5, picture)
    assert found.stages == ("body", "pool", *(["drop"] if drops else []), "head")
    chain = structure.assemble(Net(), found.stages, found.published)
    parts = cut(chain, found.cut)
    assert (parts.boundary, feature_shape(parts, picture)) == ("pool", (4,))
    parts.trainable.train()
    assert not [part for part in parts.frozen.modules() if isinstance(part, nn.Dropout) and part.p]
    whole = structure.assemble(Net(), ("body", "pool", "head"), found.published)
    assert len(whole) == 3  # a run of before, whose record says so


def test_torchvision_row():
    (spec,) = library.rows("torchvision", "mobilenet_v2")
    assert (spec.name, spec.family, spec.builder) == (
        "torchvision/mobilenet_v2", "mobilenetv2", "library",
    )  # fmt: skip
    assert [weights.tag for weights in spec.weights] == ["imagenet1k_v2", "imagenet1k_v1"]
    first = spec.weights[0]
    assert first.file == "mobilenet_v2-7ebf99e0.pth"
    assert first.sha256 == "7ebf99e0"
    assert first.url.endswith(first.file)
    assert (first.acc1, first.licence, first.classes) == (72.154, "BSD-3-Clause", "imagenet1k")
    assert spec.preprocess == first.preprocess == Preprocess(crop=224 / 232)
    assert spec.params == 3_504_872
    whole = models.resolve("torchvision/squeezenet1_1")
    assert (whole.params, whole.macs) == (1_235_496, 349_151_936)


def test_torchvision_weights_that_do_not_fit_or_may_not_be_sold_say_so():
    (vit,) = library.rows("torchvision", "vit_b_16")
    licences = {weights.tag: weights.licence for weights in vit.weights}
    assert licences == {
        "imagenet1k_v1": "BSD-3-Clause",
        "imagenet1k_swag_linear_v1": "CC-BY-NC-4.0",  # the e2e weights are for 384 pixels
    }


def test_timm_row_and_its_tags():
    spec = models.resolve("timm/resnet18")
    assert spec.weights[0].tag == "a1_in1k"
    assert len(spec.weights) == len({weights.tag for weights in spec.weights}) >= 5
    first = spec.weights[0]
    assert (
        first.url == "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    )
    assert first.file == "timm--resnet18.a1_in1k.safetensors"
    assert (first.licence, first.classes) == ("apache-2.0", "imagenet1k")
    assert spec.preprocess == Preprocess(crop=224 / 235, interpolation="bicubic")
    tagged = models.resolve("timm/resnet18.tv_in1k")
    assert tagged.name == "timm/resnet18.tv_in1k"
    assert tagged.weights[0].tag == "tv_in1k"
    assert {w.tag for w in tagged.weights} == {w.tag for w in spec.weights}
    assert tagged.preprocess.interpolation == tagged.weights[0].preprocess.interpolation
    assert tagged.stages == spec.stages


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("torchvision/resnet19", "did you mean torchvision/resnet1"),
        ("torchvision/fasterrcnn_resnet50_fpn", "is not an image classifier"),
        ("torchvision/quantized_resnet18", "is not an image classifier"),
        ("timm/resnet19", "did you mean timm/resnet"),
        ("timm/resnet18.a9_in1k", "did you mean timm/resnet18.a"),
        ("timm/vit_tiny_patch16_224.tv_in1k", "no model called 'timm/vit_tiny_.*.tv_in1k'"),
        ("hub/resnet50", "no model called 'hub/resnet50'"),
    ],
)  # fmt: skip
def test_refusals_say_what_and_what_to_do(name, what):
    with pytest.raises(UnknownModel, match=what) as error:
        models.resolve(name)
    assert "zoo list" in error.value.hint


@pytest.mark.slow  # a small one with two heads would do, and timm has none
def test_a_model_without_one_last_layer_is_a_backbone_under_a_new_head():
    spec = models.resolve("timm/deit_tiny_distilled_patch16_224")
    assert (spec.stages, spec.head, spec.num_classes) == (("backbone", "head"), "head", 0)
    assert "head_dist.weight" in spec.ignore
    assert models.resolve("timm/vit_small_patch14_dinov2").num_classes == 0


def test_lists_are_light_rows():
    (row,) = library.rows("timm", "mobilenetv2_100*")
    assert row.name == "timm/mobilenetv2_100.ra_in1k"
    assert (row.preprocess.size, row.num_classes) == (224, 1000)
    assert [(one.tag, one.licence) for one in row.weights] == [("ra_in1k", "apache-2.0")]
    assert (row.params, row.macs, row.memory, row.stages) == (0, 0, 0, ())  # not known, not guessed
    assert (row.weights[0].acc1, row.weights[0].size) == (None, None)
    assert len(library.rows("timm", "resnet")) > 100
    (row,) = library.rows("torchvision", "squeezenet1_1")
    assert (row.name, row.params, row.macs) == ("torchvision/squeezenet1_1", 1_235_496, 349_000_000)
    (weights,) = row.weights
    assert (weights.tag, weights.acc1, weights.acc5) == ("imagenet1k_v1", 58.178, 80.624)
    assert (weights.mebibytes, weights.size) == (4.729, 4_958_716)
    assert {len(library.rows(name, "no such")) for name in ("timm", "torchvision")} == {0}


def test_torchvisions_papers_and_counts_are_found_for_every_classifier():
    rows = library.rows("torchvision")
    assert len(rows) >= 80
    without = {row.name for row in rows if not (row.paper and row.year)}
    assert without == {"torchvision/squeezenet1_0", "torchvision/squeezenet1_1"}
    for row in rows:
        assert row.params, row.name
        assert row.macs, row.name
        assert all(one.acc1 and one.acc5 and one.size for one in row.weights), row.name
        if not row.ignore:  # the files hold auxiliary heads as well
            assert abs(row.weights[0].size / (4 * row.params) - 1) < 0.1, row.name
    vit = models.resolve("torchvision/vit_b_16")
    assert vit.paper.startswith("An Image is Worth 16x16 Words")
    assert (vit.paper.endswith(", arXiv:2010.11929"), vit.year) == (True, 2020)


def test_timms_paper_and_its_year():
    row = models.resolve("timm/resnet18.a1_in1k")
    assert (row.paper, row.year) == ("arXiv:2110.00476", 2021)


def test_replace_head_keeps_everything_else():
    spec = models.resolve("vgg16")
    with torch.device("meta"):
        chain = models.build(spec)
        new = models.replace_head(chain, spec, 3)
    assert type(new) is nn.Sequential
    assert new is not chain
    assert chain.get_submodule("classifier.6").out_features == 1000
    assert (new.classifier[6].in_features, new.classifier[6].out_features) == (4096, 3)
    assert new.features is chain.features
    assert all(new.classifier[i] is chain.classifier[i] for i in range(6))
    assert list(new.state_dict()) == list(chain.state_dict())


def test_replace_head_inside_a_librarys_own_module():
    spec = models.resolve("timm/convnext_atto")
    chain = models.build(spec).eval()
    new = models.replace_head(chain, spec, 3).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert new(x).shape == (1, 3)
        assert chain(x).shape == (1, 1000)
        assert torch.equal(new[:-1](x), chain[:-1](x))


def test_replace_head_by_a_small_network_is_deterministic():
    spec = models.resolve("resnet18")
    chain = models.build(spec)
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(models.replace_head(chain, spec, 4, kind="mlp:32"))
    assert [type(layer) for layer in made[0].fc] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert (made[0].fc[0].out_features, made[0].fc[3].out_features) == (32, 4)
    assert all(torch.equal(a, b) for a, b in zip(*(m.fc.parameters() for m in made), strict=True))
    for kind in ("mlp", "mlp:0", "mlp:x", "conv"):
        with pytest.raises(UsageError, match=f"'{kind}'"):
            models.replace_head(chain, spec, 4, kind=kind)


@pytest.mark.parametrize(("kind", "last"), [("linear", nn.Linear), ("mlp:16", nn.Sequential)])
def test_replace_head_of_squeezenet_drops_the_relu_over_scores(kind, last):
    spec = models.resolve("torchvision/squeezenet1_1")
    chain = models.build(spec)
    new = models.replace_head(chain, spec, 2, kind=kind).eval()
    assert models.stages(new) == ["features", "avgpool", "flatten", "head"]
    assert new.features is chain.features
    assert type(new.head) is last
    with torch.inference_mode():
        assert new(torch.randn(1, 3, 64, 64)).shape == (1, 2)


def test_describe_names_every_stage():
    spec = models.resolve("torchvision/squeezenet1_1")
    infos = models.describe(models.build(spec), spec)
    assert [info.name for info in infos] == list(spec.stages)
    assert [info.shape for info in infos] == [(512, 13, 13), (1000, 1, 1), (1000,)]
    assert sum(info.macs for info in infos) == spec.macs


def test_build_for_other_classes_and_for_none():
    spec = models.resolve("timm/mobilenetv2_100")
    assert models.build(spec, 7).get_submodule(spec.head).out_features == 7
    with pytest.raises(UsageError, match="0 classes"):
        models.build(spec, 0)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("torchvision/squeezenet1_1", "squeezenet1_1-caffe.pth"),
        ("timm/mobilenetv2_100", "timm-mobilenetv2_100-keras.pth"),
    ],
)
def test_real_weights_load_strictly(name, file):
    path = shared() / "weights" / file
    if not path.exists():
        pytest.skip("needs the shared weights: set ZOO_SHARED")
    spec = models.resolve(name)
    state = torch.load(path, map_location="cpu", weights_only=True)
    models.build(spec).load_state_dict(published(spec, state), strict=True)


@pytest.mark.slow
def test_own_chains_import_neither_torchvision_nor_timm():
    code = """
import sys
from zoo import catalog, models
import torch
for name in catalog.ROWS:
    spec = models.resolve(name)
    with torch.device("meta"):
        chain = models.replace_head(models.build(spec), spec, 2)
    models.describe(chain, spec)
print([name for name in ("torchvision", "timm") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.slow
def test_libraries_come_without_the_compiler_until_something_of_theirs_calls_it():
    code = """
import sys
import torch
disable = torch.compiler.disable
from zoo.models import from_timm, from_torchvision
from_timm.construct("mobilenetv3_small_050", 2)
from_torchvision.construct("squeezenet1_1", 2)
print("torch._dynamo" in sys.modules, disable is torch.compiler.disable)
roi_align = sys.modules["torchvision.ops.roi_align"]
print(roi_align.is_compile_supported("cpu"))
import torch._dynamo.utils
print(torch._dynamo.utils.is_compile_supported("cpu"))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, later, itself = ran.stdout.split("\n")[:3]
    assert before == "False True"
    assert later == itself


def test_the_catalogue_imports_no_torch():
    code = "import sys; import zoo.catalog.classes; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
