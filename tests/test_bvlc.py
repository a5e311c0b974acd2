"""GoogLeNet of 2014 with the weights that Caffe trained: real weights, real photos."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from zoo import catalog, network, weights
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.errors import WeightsError

ROW = catalog.find("googlenet-2014")
SLACK = 2  # of the photos measured; another machine's rounding may turn them


@pytest.fixture
def trained(shared: Path, monkeypatch: pytest.MonkeyPatch) -> network.Network:
    folder = shared / "weights"
    if not (folder / ROW.weights[0].file).is_file():
        pytest.skip(f"needs {ROW.weights[0].file} among the shared weights")
    monkeypatch.setenv("ZOO_WEIGHTS", str(folder))
    return network.pretrained(ROW.name)


@pytest.fixture
def photos(shared: Path) -> list[tuple[Path, int]]:
    folder = shared / "data" / "imagenet150"
    if not (folder / "labels.csv").is_file():
        pytest.skip("needs the shared photos of imagenet150")
    with (folder / "labels.csv").open(newline="") as file:
        return [(folder / row["file"], int(row["class_index"])) for row in csv.DictReader(file)]


def hits(net: network.Network, photos: list[tuple[Path, int]]) -> tuple[int, int]:
    """How many are told right, and how many among the first five."""
    first = five = 0
    for path, label in photos:
        pixels = normalise(plain_view(path, net.preprocess), net.preprocess)
        with torch.inference_mode():
            best = net.chain.eval()(torch.from_numpy(pixels)[None])[0].topk(5).indices.tolist()
        first += best[0] == label
        five += label in best
    return first, five


def test_weights_load_with_every_name(trained):
    assert trained.origin["tag"] == "bvlc"
    assert trained.classes[0] == "tench"


@pytest.mark.parametrize(
    ("count", "top1", "top5"),
    [(15, 10, 13), pytest.param(150, 112, 137, marks=pytest.mark.slow)],
)
def test_weights_know_the_photos(trained, photos, capsys, count, top1, top5):
    assert len(photos) == 150
    first, five = hits(trained, photos[:count])
    with capsys.disabled():
        print(f"\n{ROW.name}: top-1 {first}, top-5 {five} of {count}")
    assert first >= top1 - SLACK
    assert five >= top5 - SLACK


def test_without_the_file_it_is_said_where_to_put_it():
    with pytest.raises(WeightsError, match=r"googlenet_bvlc\.safetensors .*not found") as error:
        weights.find(ROW.weights[0])
    assert "ZOO_WEIGHTS" in error.value.hint
    assert "comes from" not in error.value.hint
