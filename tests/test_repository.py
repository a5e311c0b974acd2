"""Weights with timm's config.json: from a folder, from transformers' wrapper, from the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from kit import names, picture
from kit.serving import Server, serving
from safetensors.torch import save, save_file

from zoo import catalog, network, weights
from zoo.cli import main
from zoo.errors import WeightsError
from zoo.models.lazy_compiler import library
from zoo.predict.predictor import open_predictor
from zoo.weights.repository import CONFIG, Repository, config_beside, read_config

LABELS = ["ant", "bee", "wasp"]


def config(**changes: object) -> dict[str, object]:
    """Return a config as `timm.models.save_for_hf` writes it."""
    return {
        "architecture": "test_resnet",
        "num_classes": 3,
        "global_pool": "avg",
        "label_names": LABELS,
        "model_args": {"num_classes": 3, "in_chans": 3, "global_pool": "avg"},
        "pretrained_cfg": {
            "tag": "mine", "input_size": [3, 96, 96], "crop_pct": 0.5, "crop_mode": "border",
            "interpolation": "bicubic", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
            "num_classes": 3, "license": "mit",
        },
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return library("timm").create_model("test_resnet", num_classes=3).eval()


@pytest.fixture
def folder(tmp_path: Path, model: torch.nn.Module) -> Path:
    made = tmp_path / "published"
    made.mkdir()
    (made / CONFIG).write_text(json.dumps(config()))
    save_file(model.state_dict(), made / "model.safetensors")
    return made


def same(net: network.Network, model: torch.nn.Module) -> bool:
    x = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        return torch.equal(net.chain.eval()(x), model(x))


def test_a_folder_that_timm_has_written(folder, model):
    net = network.pretrained("timm/test_resnet", str(folder))
    assert same(net, model)
    assert net.classes == tuple(LABELS)
    how = net.preprocess
    assert (how.size, how.fit, how.interpolation, how.crop) == (96, "pad", "bicubic", 0.5)
    assert (how.mean, how.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert net.origin["licence"] == "mit"
    assert open_predictor(str(folder)).classes == tuple(LABELS)  # not the default weights


@pytest.mark.slow
def test_timms_own_writer_is_understood(tmp_path):
    from timm.models import save_for_hf

    model = library("timm").create_model("test_vit", num_classes=2).eval()
    save_for_hf(model, tmp_path, model_config={"label_names": ["a", "b"]}, safe_serialization=True)
    net = network.pretrained("timm/test_vit", str(tmp_path))
    x = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        assert torch.allclose(net.chain.eval()(x), model(x), atol=1e-6)
    assert net.classes == ("a", "b")


def test_transformers_wrapper(folder, model):
    wrapper = {"architectures": ["TimmWrapperForImageClassification"], "model_type": "timm_wrapper"}
    (folder / CONFIG).write_text(json.dumps(config(**wrapper)))
    save_file({f"timm_model.{n}": t for n, t in model.state_dict().items()},
              folder / "model.safetensors")  # fmt: skip
    assert same(network.pretrained("timm/test_resnet", str(folder)), model)


def test_features_alone(folder, model):
    (folder / CONFIG).write_text(json.dumps(config(num_classes=0, label_names=[], model_args=None)))
    bare = {n: t for n, t in model.state_dict().items() if not n.startswith("fc.")}
    save_file(bare, folder / "model.safetensors")
    net = network.pretrained("timm/test_resnet", str(folder), except_head=True)
    assert net.row.num_classes == 0
    assert all(torch.equal(net.chain.state_dict()[n], t) for n, t in bare.items())


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"architecture": "test_rsnet"}, "which timm does not have; did you mean test_resnet"),
        ({"architecture": "test_vit"}, "has weights of timm/test_vit, not of timm/test_resnet"),
        ({"architecture": "hf-hub:x/y"}, "names no model of timm"),
        ({"architecture": None, "model_type": "vit"}, "it is transformers' 'vit'"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "asks for code of its own, which is never run"),
        ({"model_args": {"block_fn": "os.system"}}, "model_args has 'block_fn' = 'os.system'"),
        ({"model_args": {"img_size": 512}}, "model_args has 'img_size' = 512"),
        ({"global_pool": "max", "model_args": None}, "pools features by 'max'"),
        ({"label_names": ["a"]}, "label_names lists 1 classes, num_classes is 3"),
        ({"label_names": ["a", "a", "b"]}, "label_names has a name twice"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"pretrained_cfg": []}, "pretrained_cfg is no table"),
        ({"pretrained_cfg": {"std": [1, 0, 1]}}, "std is"),
        ({"pretrained_cfg": {"mean": [float("nan")] * 3}}, "mean is"),
        ({"pretrained_cfg": {"input_size": [3, 64]}}, "input_size"),
        ({"pretrained_cfg": {"crop_pct": "all"}}, "crop_pct is 'all'"),
        ({"num_classes": 4, "label_names": [], "model_args": None}, "only the head differs"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_in_one_line(folder, capsys, changes, what):
    (folder / CONFIG).write_text(json.dumps(config(**changes)))
    file = folder.parent / "x.png"
    picture("disc", 0).save(file)
    code = main(["predict", "timm/test_resnet", str(file), "--weights", str(folder)])
    said = capsys.readouterr()
    assert code == 2
    error, _ = said.err.splitlines()
    assert what in error or what in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"x"'])
def test_a_config_that_is_none(folder, text):
    (folder / CONFIG).write_text(text)
    with pytest.raises(WeightsError, match="config"):
        network.pretrained("timm/test_resnet", str(folder))


def test_only_timms_models_are_published_so(folder):
    with pytest.raises(WeightsError, match="weights of timm/test_resnet, not of resnet18"):
        network.pretrained("resnet18", str(folder))


def test_a_changed_config_is_seen(folder):
    assert config_beside(folder / "model.safetensors") == folder / CONFIG
    assert read_config(folder / CONFIG).labels == tuple(LABELS)
    assert config_beside(Path("/nowhere/model.safetensors")) is None


# The Hub


@pytest.fixture
def hub(folder, monkeypatch, tmp_path):
    """A stand-in of the Hub that has one repository."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("ZOO_OFFLINE", "0")
    with serving(b"") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        root = "/me/ants/resolve/main"
        server.files = {
            f"{root}/{name}": (folder / name).read_bytes() for name in (CONFIG, "model.safetensors")
        }
        yield server


def test_from_the_hub_with_a_token_and_once(hub: Server, model):
    net = network.pretrained("timm/test_resnet", "hf-hub:me/ants")
    assert same(net, model)
    assert net.classes == tuple(LABELS)
    assert net.origin["tag"] == "hf-hub:me/ants"
    assert [one.path.rpartition("/")[2] for one in hub.asked] == [CONFIG, "model.safetensors"]
    assert {one.authorization for one in hub.asked} == {"Bearer hf_secret"}
    network.pretrained("timm/test_resnet", "hf-hub:me/ants")
    assert len(hub.asked) == 2


@pytest.mark.slow
def test_a_repository_without_safetensors(hub: Server, model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "x.bin")
    files = hub.files
    assert files is not None
    del files["/me/ants/resolve/main/model.safetensors"]
    files["/me/ants/resolve/main/pytorch_model.bin"] = (tmp_path / "x.bin").read_bytes()
    assert same(network.pretrained("timm/test_resnet", "hf-hub:me/ants"), model)


def test_the_hub_is_not_asked_where_that_is_forbidden(hub: Server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        network.pretrained("timm/test_resnet", "hf-hub:me/ants")
    assert hub.asked == []


def test_pull_and_list_and_info_show_what_is_here(hub: Server, capsys):
    stick = str(weights.cache_folder().parent / "stick")
    words = ["pull", "test_resnet", "--weights", "hf-hub:me/ants", "--to", stick]
    assert main(words) == 0
    assert names(Path(stick)) == ["hf--me--ants.json", "hf--me--ants.safetensors"]
    capsys.readouterr()
    assert main(["weights", "list"]) == 0
    assert "hf--me--ants.safetensors" in capsys.readouterr().out
    monkey = weights.cache_folder() / "weights" / "timm--test_resnet.r160_in1k.safetensors"
    monkey.write_bytes(save({"x": torch.zeros(1)}))
    from zoo.cli import list_models

    list_models._files.cache_clear()
    assert main(["list", "timm/test_resnet*"]) == 0
    header, line, *_ = capsys.readouterr().out.splitlines()
    assert (header.split()[-1], line.split()[-1]) == ("here", "yes")
    list_models._files.cache_clear()
    assert main(["info", "timm/test_resnet"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("r160_in1k (def")]
    assert line.split()[-1] == "yes"
    assert main(["weights", "remove", "hf--me--ants.safetensors"]) == 0
    assert not [name for name in names(weights.cache_folder() / "weights") if "ants" in name]


@pytest.mark.parametrize("choice", ["hf-hub:", "hf-hub:me", "hf-hub:../x", "hf-hub:a/b/c"])
def test_what_is_no_repository(choice):
    with pytest.raises(WeightsError, match="is no repository"):
        weights.choose(catalog.find("resnet18"), choice)


def test_a_repository_by_its_words():
    assert weights.choose(catalog.find("resnet18"), "hf-hub:me/ants") == Repository("me/ants")
    assert str(Repository("me/ants")) == "hf-hub:me/ants"
