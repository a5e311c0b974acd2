"""Every row of the catalogue builds, trains, predicts, embeds and exports like any other."""

from __future__ import annotations

import csv
import io
import json

import pytest
from kit import write_photos

from zoo import catalog

SMALL = [row.name for row in catalog.ROWS.values() if row.macs < 50e6]
LARGE = [name for name in catalog.ROWS if name not in SMALL]
VARIANTS = {
    "mlp": ["--variant", "norm=layer"],
    "cnn": ["--variant", "norm=batch"],
    "dannet": ["--variant", "dropout=0.5"],
}


def through(here, name, photos, folder, *flags):
    """Trains a row for one epoch, exports it, and compares what run and file say of each photo."""
    answer = here("train", name, photos, "--epochs", 1, *flags, "-o", folder)
    assert answer.code == 0, answer.err
    exported = here("export", "onnx", folder, "--json")
    assert exported.code == 0, exported.err
    proof = json.loads(exported.out)
    assert proof["network_diff"] < 1e-4
    embedded = here("embed", folder, photos)
    assert embedded.code == 0, embedded.err
    told = [here("predict", model, photos, "--top", 2) for model in (folder, folder / "model.onnx")]
    if catalog.ROWS[name].task == "reconstruct":
        assert [answer.code for answer in told] == [2, 2]
        return
    ours, theirs = (list(csv.DictReader(io.StringIO(answer.out))) for answer in told)
    assert [row["path"] for row in ours] == [row["path"] for row in theirs]
    assert {row["status"] for row in ours} == {"ok"}
    clear = 0
    for a, b in zip(ours, theirs, strict=True):
        assert float(a["probability"]) == pytest.approx(float(b["probability"]), abs=0.01)
        if float(a["probability"]) - float(a["probability_2"]) > 2 * proof["max_diff"] + 1e-5:
            assert a["label"] == b["label"]
            clear += 1
    assert clear > 0


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "few", each=4)


# One of each kind of network; the others in the slow run.
KINDS = {"autoencoder"}


@pytest.mark.parametrize(
    "name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]
)
def test_small_rows(here, few, tmp_path, name):
    through(here, name, few, tmp_path / "run", *VARIANTS.get(name, []))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_rows(here, tmp_path, name):
    photos = write_photos(tmp_path / "photos", ("disc", "square"), each=2)
    through(here, name, photos, tmp_path / "run", "--batch-size", 2)
