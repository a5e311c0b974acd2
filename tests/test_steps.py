"""The lecture's page of a small network, a chain as a drawing, and the loss around a run."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Here, csv_rows, names, sha256

from zoo import network
from zoo.catalog import Preprocess
from zoo.cli import info
from zoo.data import xo
from zoo.data.preprocess import normalise
from zoo.data.views import plain_view
from zoo.errors import UsageError
from zoo.explain import landscape as around
from zoo.explain.steps import steps
from zoo.report import landscape as picture_of
from zoo.report.chain import Stage, chain
from zoo.report.steps import SMALLEST, Answer, number_of, page
from zoo.run import Run

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str, size: float | None = None) -> list[str]:
    """Return the words of a drawing, of one size of letters where it is given."""
    found = ET.fromstring(svg).iter(f"{SVG}text")
    return [t.text or "" for t in found if size is None or t.get("font-size") == f"{size:g}"]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.fixture
def x_of_val() -> np.ndarray:
    return np.asarray(xo.draw("X", 0, "val", 5))[..., None]


# The page.


def test_the_numbers_in_the_cells_are_those_of_the_network(x_of_val: np.ndarray) -> None:
    """All of them, in order: picture, filters, each stage, and the votes for each class."""
    net = network.untrained("xo", seed=3)
    found = steps(net, x_of_val)
    assert found.votes is not None
    answer = Answer(("O", "X"), np.array([0.2, 0.8]), found.votes.products, found.votes.biases)
    drawn = [number(one) for one in texts(page(found.picture, found.steps, answer, "").svg(), 8.5)]
    chain, x = net.chain.eval(), torch.from_numpy(normalise(x_of_val, net.preprocess))[None]
    conv, head = chain.get_submodule("conv1"), chain.get_submodule("fc")
    wanted = [x, conv.weight]
    with torch.no_grad():
        for name, stage in chain.named_children():
            if name == "fc":
                wanted.append(head.weight * x)
            x = stage(x)
            wanted += [x] if name != "fc" else []
    expected = torch.cat([one.detach().flatten() for one in wanted]).tolist()
    assert SMALLEST == 8.5
    assert drawn == pytest.approx(expected, abs=0.0051)
    np.testing.assert_array_equal(found.scores, x[0].numpy())
    votes = found.votes.products.sum(1) + found.votes.biases
    np.testing.assert_allclose(votes, found.scores, atol=1e-5)


def test_numbers_are_as_long_as_a_cell_is_wide() -> None:
    values = [0, 1, -1, 0.004, -0.004, 0.5, -12.34, 9.999, 123.4, -1234.6]
    shown = ["0", "1", "−1", "0.00", "0.00", "0.50", "−12.3", "10.0", "123", "−1235"]
    assert [number_of(value) for value in values] == shown


@pytest.mark.parametrize("name", ["lenet", "cnn", "perceptron", "local", "lstm", "autoencoder"])
def test_every_small_network_of_the_lectures_has_a_page(name: str) -> None:
    net = network.untrained(name)
    side = net.preprocess.size
    found = steps(net, np.random.default_rng(0).integers(0, 255, (side, side, 1), np.uint8))
    classes = tuple(map(str, range(net.spec.num_classes)))
    answer = Answer(classes, np.full(len(classes), 0.1))
    drawing = page(found.picture, found.steps, answer, "a <b> & c")
    root = ET.fromstring(drawing.svg())
    assert texts(drawing.svg())[0] == "a <b> & c"
    for element in root.iter():
        if element.tag in (f"{SVG}rect", f"{SVG}image"):
            left, wide = float(element.get("x", 0)), float(element.get("width", 0))
            top, high = float(element.get("y", 0)), float(element.get("height", 0))
            assert left >= 0
            assert left + wide <= drawing.width
            assert top + high <= drawing.height
    assert drawing.picture(1).size == (drawing.width, drawing.height)


def test_a_large_network_is_told_what_to_use_instead() -> None:
    with pytest.raises(UsageError) as caught:
        steps(network.untrained("resnet18"), np.zeros((224, 224, 3), np.uint8))
    assert "224 x 224" in caught.value.what
    assert "--maps" in str(caught.value.hint)


def test_the_command_draws_named_photos_and_else_one_of_each_class(
    here: Here, run: Path, photos: Path, tmp_path: Path
) -> None:
    answer = here("explain", run, "--steps", "-o", tmp_path / "all", "--json")
    assert answer.code == 0, answer.err
    assert len(json.loads(answer.out)["pictures"]) == 3
    assert len([name for name in names(tmp_path / "all") if name.endswith(".svg")]) == 3
    photo = photos / "disc" / "00.png"
    answer = here("explain", run, photo, "--steps", "-o", tmp_path / "one.svg", "--json")
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)["pictures"]
    net = network.of_run(Run.open(run).finished())
    found = steps(net, plain_view(str(photo), net.preprocess))
    assert list(row["scores"].values()) == pytest.approx(found.scores.tolist(), abs=1e-4)
    assert "disc" in texts((tmp_path / "one.svg").read_text(encoding="utf-8"))
    answer = here("explain", "lenet/mnist", "--steps", "-o", tmp_path / "none")
    assert answer.code == 2
    assert "no photo to explain" in answer.err


# The chain.


def test_info_draws_the_chain_of_a_model_with_its_cut(here: Here, tmp_path: Path) -> None:
    file = tmp_path / "googlenet.svg"
    answer = here("info", "googlenet", "--svg", file)
    assert (answer.code, answer.out) == (0, f"{file}\n")
    words = texts(file.read_text())
    for word in ("picture", "inception4a", "512 x 14 x 14", "1.02M parameters", "cut", "trained"):
        assert word in words


def test_info_draws_a_run(here: Here, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.svg"
    assert here("info", run, "--svg", file).code == 0
    words = texts(file.read_text())
    assert "fc2" in words
    assert "3" in words  # its classes
    assert "cut" not in words  # all of it was trained


def test_names_in_a_drawing_stay_text() -> None:
    name = "<script>&\"'\x00\ud800"
    svg = chain(name, name, [Stage(name, (name,))], None).svg()
    assert "<script>" not in svg
    assert texts(svg)[0] == "<script>&\"'??"


def test_a_chain_for_pictures_that_are_no_squares_says_both_sides(tmp_path):
    file = tmp_path / "chain.svg"
    info.draw_chain(file, "wide", [], Preprocess(size=(64, 96)), None)
    assert "3 x 64 x 96" in texts(file.read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [(["lenet", "--svg", "a.png"], "--svg a.svg"), (["a.onnx", "--svg", "a.svg"], "no stages")],
)
def test_what_cannot_be_drawn_is_told(here: Here, words: list[str], said: str) -> None:
    answer = here("info", *words)
    assert answer.code == 2
    assert said in answer.err


# The loss around.


def test_the_middle_is_the_loss_of_the_run_and_the_run_stays_as_it_was(run: Path) -> None:
    before = sha256(run)
    opened = Run.open(run).finished()
    net = network.of_run(opened)
    state = {name: tensor.clone() for name, tensor in net.chain.state_dict().items()}
    rows = opened.labelled("train")
    views = [normalise(plain_view(str(path), net.preprocess), net.preprocess) for path, _ in rows]
    pictures = torch.from_numpy(np.stack(views))
    labels = torch.tensor([net.classes.index(label) for _, label in rows])
    told: list[int] = []
    loss = around.mean_loss(pictures, labels)
    found = around.landscape(net.chain, loss, 5, 1, lambda done, _: told.append(done))
    with torch.no_grad():
        own = torch.nn.functional.cross_entropy(net.chain.eval()(pictures), labels)
    assert found.centre == pytest.approx(float(own), rel=1e-6)
    assert found.losses.shape == (5, 5)
    assert found.along.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert told == list(range(1, 26))
    assert all(torch.equal(state[name], one) for name, one in net.chain.state_dict().items())
    assert sha256(run) == before
    again = around.landscape(net.chain, loss, 5, 1, lambda *_: None)
    np.testing.assert_array_equal(again.losses, found.losses)
    other = around.landscape(net.chain, loss, 5, 2, lambda *_: None)
    assert not np.array_equal(other.losses, found.losses)


def test_directions_have_the_norm_of_each_filter_and_leave_norms_and_biases() -> None:
    net = network.untrained("resnet18", 4)
    found = around.directions(net.chain, 0, 0)
    for name, weights in net.chain.named_parameters():
        assert (name in found) == (weights.ndim > 1)
        if name in found:
            ours, theirs = (one.flatten(1).norm(dim=1) for one in (found[name], weights))
            torch.testing.assert_close(ours, theirs.detach())
    other = around.directions(net.chain, 0, 1)["conv1.weight"]
    assert not torch.equal(found["conv1.weight"], other)


def test_small_networks_get_a_fine_grid_and_large_ones_a_coarse_one() -> None:
    assert around.affordable(400_000, 60_000) == (25, 256)
    assert around.affordable(400_000, 40) == (25, 40)
    grid, many = around.affordable(2_000_000_000, 60_000)
    assert (grid, many) == (11, 32)


@pytest.mark.parametrize("losses", [np.ones((5, 5)), np.full((5, 5), np.nan), np.zeros((5, 5))])
def test_flat_and_broken_losses_are_drawn_too(losses: np.ndarray) -> None:
    assert picture_of.draw(np.linspace(-1, 1, 5), losses).size == (1440, 648)


@pytest.mark.slow
def test_the_command_draws_the_loss_around_a_run(here: Here, run: Path, tmp_path: Path) -> None:
    answer = here("explain", run, "--landscape", "-o", tmp_path / "loss.png", "--json")
    assert answer.code == 0, answer.err
    assert "about" in answer.err
    (card,) = json.loads(answer.out)["pictures"]
    rows = csv_rows(tmp_path / "loss.csv")
    assert len(rows) == 625
    (middle,) = [row for row in rows if row["first"] == row["second"] == "0"]
    assert float(middle["loss"]) == pytest.approx(card["loss"], rel=1e-6)


def test_a_model_that_is_no_run_has_no_loss_to_draw(here: Here) -> None:
    answer = here("explain", "lenet/mnist", "--landscape")
    assert answer.code == 2
    assert "zoo train" in answer.err
