"""zoo list and zoo info: what a row says is measured, found by conditions, and readable."""

from __future__ import annotations

import json
import re
import shutil
from importlib import metadata

import pytest
import torch
from kit import loaded
from torch import nn

from benchmarks import rows as measured_rows
from zoo import catalog, models, text
from zoo.catalog import Preprocess, classes
from zoo.catalog.classics import CLASSICS
from zoo.catalog.lectures import LECTURES
from zoo.catalog.shelves import CLASSIC, WORTH_TRYING
from zoo.cli import list_models, main
from zoo.models.meter import Live, measure

NAMES = list(catalog.ROWS)
LARGE = {name for name in NAMES if catalog.ROWS[name].macs > 2e9}  # seconds each to run once
SLOW = pytest.mark.slow
EVERY = [pytest.param(n, marks=SLOW) if n in LARGE else n for n in NAMES]


class Said:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
        self.code = main(words)
        self.out, self.err = capsys.readouterr()
        self.lines = self.out.splitlines()
        self.names = [line.split()[0] for line in self.lines[1:] if line]


@pytest.fixture
def say(capsys):
    return lambda *words: Said(capsys, words)


# What is measured


@pytest.mark.parametrize("name", EVERY)
def test_a_rows_numbers_are_those_of_its_chain(name):
    row = catalog.find(name)
    found = measured_rows.measured(name)
    assert {key: getattr(row, key) for key in found} == found, (
        f"run: python -m benchmarks.rows {name}"
    )
    assert row.memory == 4 * row.params + row.activations


def peak(chain: nn.Sequential, x: torch.Tensor) -> int:
    """Of a real forward pass: storages that are really allocated and freed."""
    live = Live([*chain.parameters(), *chain.buffers()])
    live.add(x)
    with torch.no_grad(), live:
        chain.eval()(x)
    return live.peak


@pytest.mark.parametrize(
    "name",
    [
        "lenet",
        "resnet18",
        *(pytest.param(one, marks=SLOW) for one in ("alexnet", "googlenet", "resnet50")),
    ],
)
def test_activations_are_those_of_a_real_forward_pass(name):
    row = catalog.find(name)
    side, channels = row.preprocess.size, row.preprocess.channels
    real = peak(models.build(row), torch.rand(1, channels, side, side))
    assert row.activations == pytest.approx(real, rel=0.001)  # BatchNorm's statistics


def test_activations_by_hand():
    float32 = 4
    picture, widest = 3 * 224 * 224, 64 * 224 * 224
    assert catalog.find("vgg16").activations == float32 * (picture + 2 * widest)

    class Residual(nn.Module):
        def forward(self, x):
            return x + x.exp().exp()  # x, the first and the second exp; then the sum for the first

    still, grows = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()), nn.Sequential(Residual())
    size = float32 * 2 * 8 * 8
    how = Preprocess(size=8, channels=2)
    assert [info.activations for info in measure(still, how)] == [size, size]
    assert [info.activations for info in measure(grows, how)] == [3 * size]
    assert measure(nn.Sequential(nn.Conv2d(2, 3, 1)), how)[0].activations == size * 5 // 2


def test_a_batch_takes_that_many_times_the_activations():
    row = catalog.find("resnet18")
    chain = models.build(row)
    assert peak(chain, torch.rand(3, 3, 224, 224)) == pytest.approx(3 * row.activations, rel=0.001)


def test_every_published_file_has_its_size():
    for row in CLASSICS:
        for weights in row.weights:
            assert weights.size, (row.name, weights.tag)
            assert 0.99 < weights.size / (4 * row.params) < 2.1, (row.name, weights.tag)
    resnet = catalog.find("resnet50").weights[0]
    assert (resnet.bytes, resnet.mebibytes, resnet.size) == (None, 97.781, 102_530_810)


def test_sizes_are_torchvisions():
    torchvision_models = pytest.importorskip("torchvision.models")
    for row in CLASSICS:
        known = (
            torchvision_models.get_model_weights(row.name)
            if row.name in dir(torchvision_models)
            else ()
        )
        sizes = {member.url: member.meta["_file_size"] for member in known}
        for weights in row.weights:
            if weights.url in sizes:
                assert weights.mebibytes == sizes[weights.url], (row.name, weights.tag)


# Conditions


@pytest.mark.parametrize(
    ("words", "check"),
    [
        (("--max-params", "30M"), lambda row: 0 < row.params <= 30e6),
        (("--max-macs", "1.5G"), lambda row: 0 < row.macs <= 1.5e9),
        (("--max-memory", "60MB"), lambda row: 0 < row.memory <= 60e6),
        (("--max-memory", "60M"), lambda row: 0 < row.memory <= 60e6),
        (("--task", "reconstruct"), lambda row: row.task == "reconstruct"),
        (("--trained",), lambda row: row.weights),
        (
            ("--licence", "mit"),
            lambda row: row.weights and row.weights[0].licence.lower()[:3] == "mit",
        ),
        (
            ("--licence", "bsd"),
            lambda row: row.weights and row.weights[0].licence.lower()[:3] == "bsd",
        ),
        (("--min-acc1", "75"), lambda row: row.weights and (row.weights[0].acc1 or 0) >= 75),
    ],
)
def test_conditions(say, words, check):
    rows = catalog.everything()
    expected = [row.name for row in rows if check(row)]
    assert expected
    assert say("list", *words).names == expected


def test_the_issues_own_words(say):
    """zoo list --max-params 5M --licence permissive --sort acc1"""
    said = say("list", "--max-params", "5M", "--licence", "permissive", "--sort", "acc1")
    every = {row.name: row for row in catalog.everything()}
    found = [every[name] for name in said.names]
    known = [accuracy for row in found if row.weights and (accuracy := row.weights[0].acc1)]
    assert known == sorted(known, reverse=True)
    assert len(known) > 20
    assert all(0 < row.params <= 5e6 for row in found)
    assert all(row.name.count("/") == 0 or row.weights[0].licence for row in found)
    assert "made from torchvision" in said.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("memory", lambda row: row.memory or float("inf")),
        ("size", lambda row: (row.weights and row.weights[0].size) or float("inf")),
        ("acc5", lambda row: -((row.weights[0].acc5 if row.weights else None) or -1)),
        ("year", lambda row: row.year or float("inf")),
    ],
)
def test_sorted(say, key, value):
    every = {row.name: row for row in catalog.everything()}
    names = say("list", "--sort", key).names
    assert sorted(names) == sorted(every)
    values = [value(every[name]) for name in names]
    assert values == sorted(values)


def test_what_is_not_known_meets_no_condition_and_comes_last():
    known = catalog.find("lenet")
    unknown = catalog.ModelSpec("timm/x", "x", "library", "", 0, 0, 0, (), "", "")
    for limit in ("max_params", "max_macs", "max_memory"):
        assert catalog.search([unknown, known], **{limit: 10**12}) == [known]
    for key in ("params", "macs", "memory", "year"):
        assert catalog.search([unknown, known], sort=key) == [known, unknown]


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (["resnt*"], "no model is like 'resnt*'; did you mean resnet", "zoo list 'resnet*'"),
        (["hub/x"], "no model is like 'hub/x'", "'timm/*mobile*'"),
        (["--family", "vgggg"], "no family here is 'vgggg'; did you mean vgg", "--wide"),
        (["--licence", "gpl"], "no licence here is 'gpl'", "BSD-3-Clause"),
        (["--min-acc1", "0.85"], "--min-acc1 0.85: less than one percent", "in percent: 85"),
        (["--task", "detect"], "--task detect: no such task", "classify, reconstruct"),
        (["--max-memory", "much"], "--max-memory much: not a number", "100MB"),
        (["--max-macs", "1Q"], "--max-macs 1Q: not a number", "5G"),
        (["--family", "vgg", "--max-params", "1M"], "no model fits these", "leave one out"),
    ],
)
def test_refusals(say, words, what, hint):
    said = say("list", *words)
    assert said.code == 2
    assert said.out == ""
    error, told = said.err.splitlines()
    assert error.startswith(f"error: {what}") or what in error
    assert told.startswith("hint: ")
    assert hint in told


# What is shown


def test_a_plain_list_begins_with_what_is_worth_trying(say):
    said = say("list")
    assert tuple(said.names[:8]) == WORTH_TRYING
    assert tuple(said.names[8:14]) == CLASSIC
    assert sorted(said.names[8:]) == sorted(NAMES)
    assert said.names[-1] in {row.name for row in LECTURES}
    assert said.lines[0].split() == [*list_models.HEADER[:6], "classes", *list_models.HEADER[6:]]
    (line,) = [line for line in said.lines if line.startswith("resnet50 ")]
    assert re.split(r"\s{2,}", line) == [
        *("resnet50", "2015", "25.6M", "4.09G", "114 MB", "224 px", "1000"),
        *("76.13", "92.86", "103 MB", "BSD-3-Clause"),
    ]
    for part in ("worth trying", "the classics:", "1,8", "made from", "timm 1.", "- is not known"):
        assert part in said.err


def test_what_is_worth_trying_is_known_free_and_of_every_kind():
    rows = {row.name: row for row in catalog.libraries.read(WORTH_TRYING)}
    assert len(rows) == len(WORTH_TRYING)
    fit = catalog.search(rows.values(), licence="permissive")
    assert sorted(row.name for row in fit) == sorted(rows)
    assert all(row.params < 10**9 for row in rows.values())
    assert {row.num_classes for row in rows.values()} == {0, 1000}
    assert any("vit" in name for name in rows)
    assert any("conv" in name for name in rows)


def test_networks_that_give_features_say_so(say):
    said = say("list", "timm/vit_small_patch14_dinov2*")
    (line,) = [line for line in said.lines if "lvd142m" in line and "reg4" not in line]
    assert "features" in line
    (row,) = json.loads(say("list", "timm/vit_small_patch14_dinov2.*", "--json").out)
    assert (row["features"], row["num_classes"]) == (True, 0)


def test_wide_has_every_column(say):
    said = say("list", "resnet50*", "--wide")
    for part in (*list_models.COLUMNS, "imagenet1k_v2", "arXiv:1512.03385", "classify"):
        assert part in said.out


def test_a_narrow_terminal_loses_the_columns_least_wanted(say, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "72")
    said = say("list", "torchvision/resnet*")
    assert max(map(len, said.lines)) <= 72
    assert "top-1" in said.lines[0]
    assert "top-5" not in said.lines[0]
    assert said.err.startswith("left out: top-5, file")


def test_json_has_everything(say):
    rows = {row["name"]: row for row in json.loads(say("list", "--json").out)}
    assert sorted(rows) == sorted([*WORTH_TRYING, *NAMES])
    resnet = rows["resnet50"]
    assert resnet["memory"] == 4 * 25_557_032 + resnet["activations"]
    assert resnet["weights"][0]["size"] == 102_530_810
    assert resnet["weights"][1]["acc5"] == 95.434


def test_sizes_are_words():
    sizes = [list_models.size(n) for n in (None, 0, 512, 41_728, 26_292_224, 1_100_000_000)]
    assert sizes == ["-", "-", "512 B", "41.7 kB", "26.3 MB", "1.1 GB"]
    assert text.amount("1.5gb", list_models.BYTES) == 1_500_000_000
    assert text.amount("7b", list_models.COUNTS) == 7_000_000_000
    assert text.amount("7mb", list_models.COUNTS) is None


# Libraries


def test_list_of_a_library(say):
    said = say("list", "torchvision/squeezenet*", "--sort", "acc1")
    assert said.names == ["torchvision/squeezenet1_1", "torchvision/squeezenet1_0"]
    assert "asking" not in said.err
    for part in ("1.24M", "58.18", "80.62", "4.96 MB", "BSD-3-Clause"):
        assert part in said.lines[1]
    for words in (["--torchvision", "squeezenet*"], ["squeezenet*"], ["torchvision/squeeze"]):
        assert say("list", *words).names[0] == "torchvision/squeezenet1_0"


def test_what_a_row_says_is_what_its_model_is(say):
    (row,) = json.loads(say("list", "timm/mobilenetv4_conv_small.e2400*", "--json").out)
    found = models.resolve("timm/mobilenetv4_conv_small.e2400_r224_in1k")
    assert (row["params"], row["macs"]) == (found.params, found.macs)
    assert row["memory"] == pytest.approx(found.memory, rel=0.02)
    assert row["family"] == found.family
    assert row["preprocess"] == json.loads(json.dumps(found.preprocess.to_dict()))
    weights, theirs = row["weights"][0], found.weights[0]
    for name in ("tag", "url", "file", "classes", "licence", "source"):
        assert weights[name] == getattr(theirs, name), name
    assert weights["size"] / (4 * found.params) == pytest.approx(1, abs=0.02)


def test_the_table_is_of_the_libraries_that_the_tests_have():
    for name, version in catalog.libraries.made_from().items():
        if name in catalog.LIBRARIES:
            assert version == metadata.version(name), "run: python -m benchmarks.catalogue"
    assert catalog.libraries.TABLE.stat().st_size < 400_000
    assert len(catalog.libraries.names()) > 1800


@pytest.mark.parametrize(
    "arch",
    ["mobilenetv2_100", "resnet18", pytest.param("convnext_tiny", marks=pytest.mark.slow)],
)
def test_a_name_without_a_tag_is_the_row_that_timm_means(arch):
    """By its names alone; so what is to be downloaded is known without timm."""
    ours, theirs = catalog.libraries.find(f"timm/{arch}"), models.resolve(f"timm/{arch}")
    assert ours is not None
    assert ours.name == theirs.name
    assert ours.default_weights == theirs.default_weights
    other = models.resolve(f"timm/{arch}").weights[-1]
    tagged = catalog.libraries.find(f"timm/{arch}", other.tag.upper())
    assert tagged is not None
    assert tagged.weights == (other,)
    assert catalog.libraries.find(f"timm/{arch}", "none") is None


def test_another_version_of_a_library_may_have_other_weights(tmp_path, monkeypatch):
    about = tmp_path / "timm-0.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.libraries.find("timm/resnet18") is None
    assert catalog.libraries.find("torchvision/resnet18") is not None


def test_an_order_by_what_is_not_known_is_told(say):
    said = say("list", "timm/test_*", "--sort", "acc1")
    assert said.code == 0
    assert said.err.startswith("not sorted: top-1 of none of these models is known")
    assert "not sorted" not in say("list", "torchvision/squeezenet*", "--sort", "acc1").err


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("mobilenetv2_100", "timm/mobilenetv2_100"),
        ("mobilenetv2_100.ra_in1k", "timm/mobilenetv2_100.ra_in1k"),
        ("squeezenet1_1", "torchvision/squeezenet1_1"),
        ("efficientnet_b0", "torchvision/efficientnet_b0"),
        ("resnet50", "resnet50"),
        ("lenet/mnist", "lenet/mnist"),
        ("timm/resnet18", "timm/resnet18"),
        ("nothing", "nothing"),
    ],
)
def test_a_name_without_its_library(name, whole):
    assert catalog.full_name(name) == whole


def test_which_network_is_taken_is_said(say, tmp_path, monkeypatch):
    said = say("info", "vgg11", "--classes")
    assert said.code == 0
    assert said.err == "vgg11: taken as torchvision/vgg11; there is timm/vgg11 as well\n"
    said = say("info", "mobilenetv2_10")
    assert (said.code, "mobilenetv2_100" in said.err) == (2, True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobilenetv2_100").mkdir()  # a place stays a place
    assert "taken as" not in say("info", "mobilenetv2_100").err


def test_a_list_of_the_libraries_loads_neither():
    code = "from zoo.cli import main; main(['list', '--max-params', '5M', '--sort', 'acc1'])"
    assert not loaded(code) & {"torch", "torchvision", "timm", "numpy"}


def test_nearest_names_of_a_library(say):
    said = say("list", "torchvision/resnt5*")
    assert said.code == 2
    assert "no model is like 'torchvision/resnt5*'; did you mean torchvision/res" in said.err


# One model


@pytest.mark.parametrize("name", EVERY)
def test_info_of_every_row(say, name):
    row, said = catalog.find(name), say("info", name)
    assert said.code == 0
    assert said.err == ""
    parts = [row.paper, f"{row.params:,}", list_models.size(row.memory), "memory"]
    parts += [one for knob in row.variants for one in (knob.name, *knob.choices)]
    parts += [part for one in row.weights for part in (one.tag, one.file, one.licence, one.source)]
    for part in (*parts, "frozen <- cut"):
        assert part in said.out, part
    assert ("reconstruct" in said.out) == (row.task == "reconstruct")
    table = json.loads(say("info", name, "--json").out)["stage_table"]
    assert max(stage["activations"] for stage in table) == row.activations
    assert [stage["name"] for stage in table] == list(row.stages)


def test_info_tells_which_weights_are_here(say, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    held = tmp_path / "weights" / catalog.find("resnet18").weights[0].file
    (found,) = json.loads(say("info", "resnet18", "--json").out)["weights"]
    assert found["path"] is None
    held.parent.mkdir()
    held.write_bytes(b"")
    (found,) = json.loads(say("info", "resnet18", "--json").out)["weights"]
    assert found["path"] == str(held)
    (line,) = [x for x in say("info", "resnet18").lines if x.startswith("imagenet1k_v1 (default)")]
    assert line.split()[-1] == "yes"


def test_info_of_a_library(say):
    said = say("info", "torchvision/squeezenet1_1")
    for part in ("1,235,496", "58.18", "80.62", "4.96 MB", "memory", "squeezenet1_1-b8a52dc0.pth"):
        assert part in said.out


# A run and its file


def test_info_of_a_run(here, run):
    said = here("info", run)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == f"{run}: a run of lenet, finished"
    told = {line[2:13].strip(): line[13:] for line in lines[1:]}
    assert told["weights"] == "none: random at the start, from seed 0"
    assert told["classes"] == "3: disc, square, stripes"
    assert told["input"].startswith("32 x 32 grey") or told["input"].startswith("28 x 28 grey")
    assert told["epochs"].startswith("60, the weights are those of epoch ")
    assert re.fullmatch(r"accuracy [0-9.]+ %, macro-F1 [0-9.]+ %", told["results"])
    assert re.match(r"\d+ train, \d+ val, of ", told["photos"])
    assert json.loads(here("info", run, "--json").out) == json.loads((run / "run.json").read_text())
    assert here("info", run, "--classes").out.split()[2:] == [
        "0",
        "disc",
        "1",
        "square",
        "2",
        "stripes",
    ]


def test_info_of_a_run_says_where_it_was_exported(here, run, tmp_path):
    mine, exported = shutil.copytree(run, tmp_path / "run"), tmp_path / "a.onnx"
    assert here("export", "onnx", mine, "-o", exported).code == 0
    said = here("info", mine)
    assert f"{exported} (image, " in said.out
    assert "same class on " in said.out
    about = json.loads((run / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "status": "started"}))
    assert "epochs     none yet" in here("info", tmp_path).out
    rebuilt = about | {"task": "reconstruct", "results": {"mse": 0.5, "mae": 0.25}}
    (tmp_path / "run.json").write_text(json.dumps(rebuilt))
    assert "MSE 0.500000, MAE 0.250000" in here("info", tmp_path).out
    assert "no classes" in here("info", tmp_path, "--classes").err


def test_info_of_an_exported_file(here, exported):
    said = here("info", exported)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"{exported}: an exported lenet\n")
    for part in ("3: disc, square, stripes", "uint8 pictures of any size", "bilinear"):
        assert part in said.out
    about = json.loads(here("info", exported, "--json").out)
    assert (about["model"], about["input"], about["task"]) == ("lenet", "image", "classify")
    assert about["classes"] == ["disc", "square", "stripes"]


@pytest.mark.parametrize("of", ["run", "exported"])
def test_info_of_what_was_made_loads_no_torch(of, request):
    words = ["info", str(request.getfixturevalue(of))]
    names = loaded(f"import zoo.cli\nassert zoo.cli.main({words!r}) == 0")
    assert names.isdisjoint(("torch", "torchvision", "timm", "rich"))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("runs/ae", "there is no run folder runs/ae, and no model of that name"),
        ("gone.onnx", "there is no file gone.onnx"),
        ("lenet/gone", "lenet has no weights 'gone'"),
        (".", ". is not a run folder: it has no run.json"),
    ],
)
def test_info_of_what_is_not_there(say, name, what):
    said = say("info", name)
    assert said.code == 2
    assert what in said.err
    assert "hint: " in said.err


# Classes


def test_the_standard_order_of_imagenet():
    names, wnids = classes.names("imagenet1k"), classes.wnids("imagenet1k")
    expected = {
        0: ("n01440764", "tench"),
        134: ("n02012849", "crane bird"),
        207: ("n02099601", "golden retriever"),
        281: ("n02123045", "tabby"),
        517: ("n03126707", "crane"),
        638: ("n03710637", "maillot"),
        639: ("n03710721", "maillot tank suit"),
        999: ("n15075141", "toilet tissue"),
    }
    assert {index: (wnids[index], names[index]) for index in expected} == expected
    assert (names[264], names[474]) == ("Cardigan", "cardigan")


def test_info_lists_the_classes_with_their_wordnet_ids(say):
    said = say("info", "alexnet", "--classes")
    assert len(said.lines) == 1001
    assert said.lines[518].split() == ["517", "n03126707", "crane"]
    rows = json.loads(say("info", "alexnet", "--classes", "--json").out)
    assert rows[134] == {"index": 134, "wnid": "n02012849", "name": "crane bird"}
    refused = say("info", "lenet", "--classes")
    assert refused.code == 2
    assert "lenet has no classes yet" in refused.err
