"""What to try next for a result: each rule holds on its evidence, and its command runs."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import write_photos

from zoo import recipe
from zoo.cli import main
from zoo.metrics import report
from zoo.report.next_steps import RULES, Result, Rule, confused, steps, weakest
from zoo.run import Run

NAMES = ("coat", "dress", "shirt")


def result(*wrong: tuple[int, int, int], photos: int = 100, **about: Any) -> Result:
    """Return a result of three classes. wrong: true class, answer, of how many photos."""
    labels = np.repeat(np.arange(3), photos)
    answers = labels.copy()
    for true, said, many in wrong:
        mine = np.flatnonzero((labels == true) & (answers == true))[:many]
        answers[mine] = said
    usual = {"train": dict.fromkeys(NAMES, 300), "run": "runs/a", "data": "photos"}
    return Result(**{"report": report(answers, labels, NAMES), **usual, **about})


GOOD = result((0, 1, 3))
POOR = result((0, 1, 10), (1, 2, 20), (2, 0, 30))  # 80 %, of the last class 70 %
FROZEN = replace(POOR, frozen=True)


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("random", replace(FROZEN, pretrained=False), FROZEN),
        ("random", replace(FROZEN, pretrained=False), replace(POOR, pretrained=False)),
        ("unlike", replace(POOR, held_out=0.99), replace(POOR, held_out=0.85)),
        ("labels", replace(GOOD, doubted=30), replace(GOOD, doubted=9)),
        ("longer", replace(POOR, improving=True), replace(GOOD, improving=True)),
        ("rare", result((2, 0, 30), train={"coat": 300, "dress": 280, "shirt": 60}), POOR),
        ("rare", result((2, 0, 30), train={"coat": 90, "dress": 90, "shirt": 40}),
         result((2, 0, 3), train={"coat": 90, "dress": 90, "shirt": 40})),
        ("deeper", replace(FROZEN, learned=0.99), replace(FROZEN, learned=0.6)),
        ("deeper", FROZEN, replace(GOOD, frozen=True)),
        ("deeper", FROZEN, replace(FROZEN, train=dict.fromkeys(NAMES, 8))),
        ("balance", result((2, 0, 9), (2, 1, 90), train={"coat": 300, "dress": 280, "shirt": 60}),
         result((2, 0, 9), (2, 1, 90), balanced=True,
                train={"coat": 300, "dress": 280, "shirt": 60})),
        ("backbone", replace(FROZEN, others=lambda: 2), FROZEN),
        ("backbone", replace(FROZEN, others=lambda: 1), replace(FROZEN, others=lambda: 0)),
        ("weak", result((2, 0, 60), train=dict.fromkeys(NAMES, 100)), result((2, 0, 60))),
        ("unsure", result((0, 1, 4), (1, 2, 3), photos=20),
         result((0, 1, 4), (1, 2, 3), photos=20, repeated=True)),
        ("unsure", result((0, 1, 4), (1, 2, 3), photos=20), POOR),
    ],
)  # fmt: skip
def test_a_rule_holds_on_its_evidence_and_not_on_other(name, yes, no):
    (rule,) = [rule for rule in RULES if rule.name == name]
    assert rule.holds(yes)
    assert not rule.holds(no)
    assert rule.says(yes)


def test_two_steps_are_said_and_of_a_good_result_what_it_is_for():
    everything = replace(FROZEN, doubted=90, held_out=1.0, improving=True, others=lambda: 9)
    assert len(steps(everything, 2)) == 2
    assert steps(GOOD, 2) == ["`zoo predict runs/a FOLDER`, `zoo export onnx runs/a`"]


def test_a_class_that_is_taken_for_each_other_once_is_told_from_one():
    """Beside a pair of two photos its own pairs are none that are shown."""
    poor = result((0, 1, 1), (0, 2, 1), (1, 2, 2), photos=2, train=dict.fromkeys(NAMES, 8))
    assert confused(poor.report) == [("dress", "shirt", 2, 2)]
    assert steps(poor, 1)[0].startswith("more photos of coat that tell it from dress: it has 8")


def test_who_is_confused_with_whom():
    assert confused(POOR.report) == [
        ("shirt", "coat", 30, 100), ("dress", "shirt", 20, 100), ("coat", "dress", 10, 100)
    ]  # fmt: skip
    assert weakest(POOR.report).name == "shirt"
    one = result((0, 1, 1), (1, 2, 4)).report
    assert confused(one) == [("dress", "shirt", 4, 100)]
    assert confused(result((0, 1, 1)).report) == [("coat", "dress", 1, 100)]
    assert (confused(result().report), weakest(result().report)) == ([], None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs on a few photos, in a folder with a blank in its name."""
    folder = tmp_path_factory.mktemp("runs")
    write_photos(folder / "my photos")
    words = "finetune lenet/mnist 'my photos' --views 1 --no-report"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(shlex.split(f"{words} --cut act4 -o 'runs/one a'")) == 0
        assert main(shlex.split(f"{words} --epochs 2 -o runs/steps")) == 0
        yield


def commands_of(folder: str, rules: tuple[Rule, ...]) -> list[str]:
    """Return the commands in what rules say of a run, as if it were a poor one."""
    run = Run.open(Path(folder))
    found = Result.of(run, POOR.report, recipe.load(run.path("recipe.toml")))
    found = replace(found, train=dict.fromkeys(NAMES, 20))
    assert found.data == "'my photos'"
    return [each for rule in rules for each in re.findall(r"`zoo (.+?)`", rule.says(found))]


def test_the_command_of_each_rule_runs(runs, capfd):
    longer = tuple(rule for rule in RULES if rule.name == "longer")
    others = tuple(rule for rule in RULES if rule.name != "longer")
    commands = [*commands_of("runs/one a", others), *commands_of("runs/steps", longer)]
    assert len(commands) >= len(RULES)
    assert any("--recipe 'runs/one a/recipe.toml'" in command for command in commands)
    for command in dict.fromkeys(commands):
        if command == "compare":  # named, not spelt
            continue
        words = shlex.split(command.replace("FOLDER", "'my photos'"))
        if words[0] == "rank":  # said where there is something to try
            words += ["--models", "lenet"]
        code = main([*words, "--dry-run"] if words[0] == "finetune" else words)
        assert code == 0, (command, capfd.readouterr().err)


@pytest.mark.parametrize(
    "command",
    [
        "list --json", "info lenet --json", "info {run} --json", "recipes --json", "runs --json",
        "evaluate {run} --json", "evaluate {run} --tta 2 --json", "compare {run} runs/steps --json",
        "check 'my photos' --json", "weights list --json", "report {run} --json",
        "finetune lenet/mnist 'my photos' --views 1 --cut act4 --json", "export onnx {run} --json",
    ],
)  # fmt: skip
def test_stdout_is_data_whatever_there_is_to_say(command, runs, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    capfd.readouterr()
    words = shlex.split(command.format(run="'runs/one a'"))
    code = main(words)
    answer = capfd.readouterr()
    assert code == 0, answer.err
    json.loads(answer.out)
