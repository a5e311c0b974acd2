"""The optimum of a linear head: softmax regression, its penalty chosen by cross-validation.

mean cross-entropy + penalty/2 * ||W||^2 over standardised features, the bias free, is convex with
one minimum, which L-BFGS finds. How strong the penalty should be is what the data decide.

numpy and scipy only. `softmax_regression.py` has the arithmetic, `penalty.py` the choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.head.penalty import HeldOut, Search, Tried, choose
from zoo.head.rows import Rows
from zoo.head.softmax_regression import Poll, Problem, Targets, minimise
from zoo.head.stored import Stored
from zoo.head.threads import one_thread
from zoo.metrics import Array

__all__ = ["Search", "Solution", "solve"]

SOLVING = 1e-10  # tolerance of the loss


@dataclass(frozen=True, slots=True)
class Solution:
    """weight: K x D and bias: K, float32, for the features as given. table: of what was tried.

    held_out: what heads that were not found on them say of the rows; None where none was.
    spread: of the features, see `rows.spread_of`.
    """

    weight: Array
    bias: Array
    penalty: float
    table: tuple[Tried, ...]
    iterations: int
    reason: str
    held_out: HeldOut | None = None
    spread: float = 1.0


def solve(
    features: Array | Stored, targets: Targets, search: Search, poll: Poll | None = None
) -> Solution:
    """Return the head of features, N x D. The same input gives the same bits.

    Of features in a file each step is a pass over it, and memory does not grow with them.
    """
    with one_thread():
        problem = Problem(Rows(features), targets, poll)
        everyone = np.ones(len(features), bool)
        choice = choose(problem, search, everyone)
        held_out = choice.held_out()
        weights = targets.sample_weight(everyone[None])
        heads = minimise(problem, weights, choice.penalty, choice.head, SOLVING)
        weight, bias = problem.rows.for_features(heads.weight[0], heads.bias[0])
    reason = f"penalty {choice.penalty:.2g}, {choice.reason}"
    about = (choice.penalty, choice.table, choice.steps + heads.steps)
    return Solution(weight, bias, *about, reason, held_out, problem.rows.spread)
