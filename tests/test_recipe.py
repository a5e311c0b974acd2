"""Recipe: every problem at once, flags over TOML over defaults, and no setting without a flag."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from kit import Here

from zoo.cli import auto, distill, finetune, flags, lr, train
from zoo.errors import RecipeError
from zoo.recipe import load, make, table, variants
from zoo.settings.setting import SECTIONS

BASE = {"model": "lenet", "data": "photos"}
COMMANDS = (finetune.command, train.command, lr.command, distill.command)
ONLY_FLAGS = {one.name for one in fields(flags.Way)} - {"force"} | {"student"}
AUTO = {one.name for one in fields(auto.Flags)}


def toml(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_enough() -> None:
    recipe = make(dict(BASE))
    assert (recipe.freeze, recipe.epochs, recipe.precision, recipe.device) == (
        True, 30, "fp32", "auto",
    )  # fmt: skip


def test_flags_win_over_toml_and_toml_over_defaults(tmp_path: Path) -> None:
    file = toml(tmp_path, 'model = "vgg16"\ndata = "there"\nepochs = 5\nlr = 0.5\nfreeze = false\n')
    recipe = make({"model": None, "data": "here", "lr": 0.25, "epochs": None}, file)
    assert (recipe.model, recipe.data, recipe.lr, recipe.epochs) == ("vgg16", "here", 0.25, 5)
    assert recipe.freeze is False
    assert make({"freeze": True}, file).freeze is True


def test_every_problem_is_in_one_error(tmp_path: Path) -> None:
    file = toml(tmp_path, 'epoch = 5\nlr = "3e-4"\nhead = "mlp"\nbatch_size = 0\nbalance = "so"\n')
    with pytest.raises(RecipeError) as error:
        make({"data": "x", "device": "gpu"}, file)
    for part in (
        "unknown setting 'epoch' (did you mean epochs",
        "lr = '3e-4': ",
        "head = 'mlp': expected `linear`, `mlp:N`, `knn:K`",
        "batch_size = 0: ",
        "balance = 'so': ",
        "device = 'gpu': expected auto",
        "'model' is missing",
    ):
        assert part in error.value.what
    assert "\n" not in error.value.what
    assert error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("typo", "name"),
    [("learning_rate_decay", "weight_decay"), ("batchsize", "batch_size"), ("sead", "seed")],
)
def test_typo_gets_the_nearest_name(typo: str, name: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown setting '{typo}'.*{name}"):
        make({**BASE, typo: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("epochs", 2.0), ("epochs", True), ("epochs", "3"), ("lr", "3e-4"),
        ("lr", 0.0), ("lr", float("nan")), ("lr", float("inf")), ("warmup", 1.0), ("views", 0),
        ("label_smoothing", 1.0), ("val_fraction", 0.0), ("val_fraction", 1.0), ("seed", -1),
        ("seed", 2**63), ("head", "mlp:0"), ("head", "linear "), ("freeze", 1), ("best", "worst"),
        ("fit", "stretch"), ("precision", "fp16"), ("device", "cuda:"), ("weight_decay", -0.1),
        ("model", 5), ("cut", ["layer4"]), ("size", 33.5), ("size", True), ("size", "4x32"),
        ("size", "x"), ("size", "64x9999"), ("size", 7), ("size", "32x32x3"),
    ],
)  # fmt: skip
def test_value_that_does_not_fit_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RecipeError, match=f"^{name}.* = "):
        make({**BASE, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 1), ("head", "mlp:512"), ("device", "cuda:3"), ("views", 4), ("seed", 2**63 - 1),
        ("size", 96), ("size", "96x160"),
    ],
)  # fmt: skip
def test_value_that_fits_is_taken(name: str, value: object) -> None:
    assert getattr(make({**BASE, name: value}), name) == value


def test_a_size_in_words_is_the_same_number() -> None:
    assert make({**BASE, "size": "96"}).size == 96


def test_cut_without_freezing_contradicts_itself() -> None:
    with pytest.raises(RecipeError, match="--no-freeze with --cut layer3"):
        make({**BASE, "freeze": False, "cut": "layer3"})


@pytest.mark.parametrize("text", ["epochs = ", "epochs = 1\nepochs = 2", "[", "a b"])
def test_what_is_not_toml_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.toml is not TOML"):
        make(dict(BASE), toml(tmp_path, text))


def test_file_that_is_missing_a_folder_or_bytes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe at"):
        load(tmp_path / "missing.toml")
    with pytest.raises(RecipeError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "photo.toml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(RecipeError, match="is not TOML"):
        load(tmp_path / "photo.toml")


def test_saved_recipe_reads_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    odd = {"data": 'C:\\"photos"\t☕', "cut": "layer4.1", "lr": 3e-4, "views": 2, "flip": False}
    for values in (BASE, {**BASE, **odd}):
        recipe = make(dict(values))
        recipe.save(path)
        assert make({}, path) == recipe


def test_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        make(dict(BASE)).epochs = 3  # type: ignore[misc]


def test_every_setting_has_a_flag_and_a_section() -> None:
    known = {name for one in COMMANDS for name in inspect.signature(one).parameters}
    assert known - ONLY_FLAGS - AUTO == set(table())
    for one in table().values():
        assert one.section in SECTIONS, one.name
        assert one.commands, one.name


@pytest.mark.parametrize("command", COMMANDS[:3])
def test_flags_hold_no_default_of_their_own(command: Callable[..., object]) -> None:
    for name, one in inspect.signature(command).parameters.items():
        if name not in AUTO | ONLY_FLAGS | {"force"}:  # force: elsewhere a switch
            assert one.default is None, name


def test_help_tells_what_a_setting_does_its_choices_and_its_default() -> None:
    """In sentences that begin with a capital and not with a riddle."""
    for one in table().values():
        assert re.match(r"(?!Of |As )[A-Z].*\.$", one.described), one.described
        for value in one.choices:
            assert re.search(rf"\b{value}\b", one.described), (one.name, value)
    assert table()["epochs"].described == "Passes over the training photos. Default: 30."
    assert table()["compile"].described == "Run the trained part through torch.compile."


def test_variants_are_pairs_and_flags_add_to_those_of_a_file(tmp_path: Path) -> None:
    assert variants(["norm=batch", "dropout=0.2"]) == {"norm": "batch", "dropout": 0.2}
    for word in ("norm", "=batch", "norm="):
        with pytest.raises(RecipeError, match="--variant"):
            variants([word])
    file = toml(tmp_path, 'variant = { norm = "batch", dropout = 0.5 }\n')
    made = make({**BASE, "variant": {"dropout": 0.2}}, file)
    assert made.variant == {"norm": "batch", "dropout": 0.2}
    made.save(tmp_path / "saved.toml")
    assert make({}, tmp_path / "saved.toml") == made


def test_a_number_that_python_cannot_print_is_refused(here: Here, tmp_path: Path) -> None:
    for value in (f"0x{'f' * 5000}", f"['a', 0x{'f' * 5000}]"):
        (tmp_path / "x.toml").write_text(f"seed = {value}\n")
        answer = here("finetune", "lenet", tmp_path, "--recipe", tmp_path / "x.toml")
        assert answer.code == 2
        assert "is not TOML: a number of 20,000 bits" in answer.err
