"""The sheet of what the network is fed: the very pixels, whatever changes them."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
import torch
from kit import Watcher, settings
from PIL import Image

from zoo.data.views import view_of
from zoo.finetune import begin
from zoo.finetune.fed import look
from zoo.finetune.prepare import prepare
from zoo.report.fed import FRAME

WHOLE = {"freeze": False, "epochs": 3}


@pytest.mark.parametrize(
    "changes",
    [{"size": 72}, {"distort": "elastic"}, {"augment": "light"}, {"views": 2}],
    ids=["views", "distort", "augment", "turns"],
)
def test_epochs_of_the_sheet_are_the_batches_of_training(photos, tmp_path, changes):
    model = "lenet" if "distort" in changes else "resnet18"
    prepared = prepare(settings(model, photos, **{"size": 32, **WHOLE, **changes}))
    found, plan = look(prepared.plan), prepared.plan
    assert found.columns[:2] == ("plain view", "epoch 1")
    source = begin.start(prepared, tmp_path / "run", Watcher()).inputs.batches(plan.phases[0])
    rows = {photo[0]: row for row, photo in enumerate(source.photos.train)}
    order = [np.array([rows[one.path] for one in found.photos])]
    for column, name in enumerate(found.columns[1:], 1):
        (batch,) = source.train(int(name.split()[1]), order)
        drawn = np.stack([one.inputs[column] for one in found.photos])
        assert torch.equal(source.normalise(torch.from_numpy(drawn)), batch), name


def test_views_of_the_sheet_are_those_whose_features_are_kept(photos):
    plan = prepare(settings("resnet18", photos, size=32, views=3)).plan
    found = look(plan)
    assert found.columns == ("plain view", "view 1", "view 2")
    assert {one.label for one in found.photos} == {"disc", "square", "stripes"}
    for one in found.photos:
        data = (photos / one.path).read_bytes()
        for number, pixels in enumerate(one.inputs):
            told = {
                "seed": plan.view_seed,
                "digest": hashlib.sha256(data).hexdigest(),
                "flip": plan.recipe.flip,
            }
            assert np.array_equal(pixels, view_of(data, plan.preprocess, number, **told))


def test_a_dry_run_draws_the_crop_its_views_and_a_photo_that_cannot_be_read(here, photos, tmp_path):
    data, sheet = tmp_path / "photos", tmp_path / "fed.png"
    shutil.copytree(photos, data)
    for path in sorted((data / "disc").iterdir()):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ["--weights", "none", "--size", 64, "--skip-unreadable", "--mixup", 0.2]
    said = here("finetune", "resnet18", data, *words, "--dry-run", "--sheet", sheet)
    assert said.code == 0, said.err
    assert "10 photos: plain view" in said.err
    assert "--mixup then mix" in said.err
    assert "nothing but the sheet was written" in said.err
    with Image.open(sheet) as image:
        colours = {colour for _, colour in image.getcolors(image.width * image.height)}
    assert tuple(bytes.fromhex(FRAME[1:])) in colours
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fed.png", "photos"]


def test_a_sheet_is_a_png_of_a_run_that_is_planned(here, photos, tmp_path):
    said = here("train", "mlp", photos, "--dry-run", "--sheet", tmp_path / "fed.jpg")
    assert (said.code, "use one of .png" in said.err) == (2, True)
    said = here("train", "--resume", tmp_path, "--sheet", tmp_path / "fed.png")
    assert said.code == 2
