"""The learning-rate range test: a rate that rises in every step, and what the loss makes of it.

Smith 2015, arXiv:1506.01186, section 3.3, with the rate rising exponentially as Howard has it. Two
suggestions are read from the smoothed curve. steepest: where the loss falls fastest with the
logarithm of the rate. valley: the middle of the longest way down, as fast.ai has it, but without
the flat ends of that way, where a head on features that can be separated keeps on falling a
little. The weights are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo.disk import scratch
from zoo.errors import TrainingError, UsageError
from zoo.finetune.describe import record
from zoo.finetune.fit import loop_of
from zoo.finetune.inputs import Inputs
from zoo.finetune.prepare import Prepared
from zoo.head.kinds import kind_of
from zoo.metrics import Array
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.train.batches import order
from zoo.train.loop import Loop
from zoo.train.step import Batch
from zoo.watch import Watch

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 100
DIVERGED = 4.0  # times the least loss so far
NOTHING = 0.1  # of the first loss: a rise by less is none
WIDTH = 3.0  # of the Gaussian that smooths, in steps
FLAT = 0.2  # share of the longest fall that its flat ends have
EDGE = 5  # steps at either end that steepest leaves out: there is least to smooth with
FEWEST = 20
LEAST_FALL = 0.02  # of the loss at the start


@dataclass(frozen=True, slots=True)
class Point:
    """One step: its rate and the loss of its batch before the step was taken."""

    lr: float
    loss: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """valley, steepest: rates. fall: the rates from which to which the loss falls; losses: there.

    smooth: the smoothed loss of each point.
    """

    valley: float
    steepest: float
    fall: tuple[float, float]
    losses: tuple[float, float]
    smooth: tuple[float, ...]


def in_steps(recipe: Recipe) -> Recipe:
    """The recipe with a solver that takes steps, and once. Raises UsageError."""
    if recipe.unfreeze or recipe.schedule == "head-then-all":
        raise UsageError(
            "a range test is of one cut, the recipe has several (unfreeze, or head-then-all)",
            "leave both out; --cut STAGE or --no-freeze says which part is meant",
        )
    if kind_of(recipe.head).computed:
        raise UsageError(
            f"--head {recipe.head} is computed from features, without steps and so without a rate",
            "leave it out, or give --head linear or mlp:512",
        )
    steps = recipe.optimizer if recipe.optimizer not in ("auto", "lbfgs") else "adamw"
    return replace(recipe, optimizer=steps, penalty=None, seeds=1, folds=None)


def curve(prepared: Prepared, watch: Watch) -> list[Point]:
    """Return the points; tell what there is to say of the features, which are kept in the cache.

    Nothing else is left behind: the run folder that the feature pass wants is a temporary one.
    """
    (phase,), points = prepared.plan.phases, []
    prepared.settle()
    with scratch("lr") as folder:
        inputs = Inputs(prepared, Run.create(folder / "run", record(prepared.plan)), watch)
        for point in rising(loop_of(inputs, phase, inputs.batches(phase))):
            points.append(point)
            watch.progress("steps", len(points), STEPS)
    return points


def rising(loop: Loop) -> Iterator[Point]:
    """Take steps at a rising rate: at most STEPS of them, fewer where the loss diverges."""
    losses: list[float] = []
    for batch in batches(loop):
        rate = LOWEST * (HIGHEST / LOWEST) ** (len(losses) / (STEPS - 1))
        loss = loop.step.take(batch, rate, len(losses))
        if loss is None:  # not finite
            break
        losses.append(loss)
        yield Point(rate, loss)
        if diverged(smoothed(losses)):
            break
    loop.restore_best()


def batches(loop: Loop) -> Iterator[Batch]:
    """Yield the batches of as many epochs as STEPS take."""
    settings, state, left = loop.settings, loop.state, STEPS
    loop.model.train()
    while left:
        labels, size = loop.batches.labels, settings.step_rows
        rows = order(settings.seed, state.epoch, labels, size, balanced=settings.balanced)[:left]
        inputs = loop.batches.train(state.epoch, rows)
        for own, batch in zip(rows, inputs, strict=True):
            yield Batch(own, own, batch)
            state.step += 1
        left -= len(rows)
        state.epoch, state.step = state.epoch + 1, 0


def suggestion(points: Sequence[Point]) -> Suggestion:
    """Raises TrainingError for a curve that falls nowhere."""
    if len(points) < FEWEST:
        raise TrainingError(
            f"the loss left all bounds after {len(points)} steps, at a rate of "
            f"{points[-1].lr if points else LOWEST:.0e}",
            "try --clip 1, or other --weights",
        )
    rates = [point.lr for point in points]
    smooth = smoothed([point.loss for point in points])
    first, last = longest_fall(smooth)
    if smooth[first] - smooth[last] < LEAST_FALL * abs(smooth[first]):
        raise TrainingError(
            f"the loss falls nowhere between the rates {rates[0]:.0e} and {rates[-1]:.0e} "
            f"(from {smooth[first]:.3g} to {smooth[last]:.3g} at best)",
            "cut earlier, or see whether the photos lie in the right folders",
        )
    first, last = _inclined(smooth, first, last)
    slopes = np.gradient(smooth, np.log(rates))[EDGE:-EDGE]
    return Suggestion(
        valley=rates[(first + last) // 2],
        steepest=rates[EDGE + int(slopes.argmin())],
        fall=(rates[first], rates[last]),
        losses=(float(smooth[first]), float(smooth[last])),
        smooth=tuple(smooth.tolist()),
    )


def diverged(smooth: Array) -> bool:
    """Whether the loss has left its valley for good; of a loss near zero, four times is little."""
    least = smooth.min()
    return bool(smooth[-1] > max(DIVERGED * least, least + NOTHING * smooth[0]))


def smoothed(losses: Sequence[float]) -> Array:
    """A Gaussian mean around each step: unlike a running mean it does not lag behind."""
    steps = np.arange(len(losses))
    weights = np.exp(-0.5 * ((steps[:, None] - steps[None, :]) / WIDTH) ** 2)
    result: Array = (weights @ np.asarray(losses, float)) / weights.sum(axis=1)
    return result


def longest_fall(values: Array) -> tuple[int, int]:
    """First and last place of the longest falling subsequence; of equally long ones the first."""
    length, came_from = np.ones(len(values), int), np.arange(len(values))
    for place in range(1, len(values)):
        above = np.flatnonzero(values[:place] > values[place])
        if len(above):
            best = above[length[above].argmax()]
            length[place], came_from[place] = length[best] + 1, came_from[best]
    last = int(length.argmax())
    return int(came_from[last]), last


def _inclined(smooth: Array, first: int, last: int) -> tuple[int, int]:
    """The longest fall without its flat ends: from a fifth lost for good to four fifths lost."""
    lost = (smooth[first] - smooth[first : last + 1]) / (smooth[first] - smooth[last])
    begins = first + int(np.flatnonzero(lost < FLAT)[-1])
    return begins, first + int(np.flatnonzero(lost < 1 - FLAT)[-1])
