"""The plan of a fine-tune: every choice with its reason, from facts, before anything is computed.

`asked.look` asks the photos and the machine, `plan_of` puts what they say and the facts of the
network together. Neither needs torch; who wants both, and the facts found where there are none,
calls `prepare.prepare`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo.catalog import Preprocess
from zoo.data.index import DatasetIndex
from zoo.device import Device
from zoo.features.compute import Views
from zoo.finetune import checks, head_rows
from zoo.finetune.asked import Asked
from zoo.finetune.choices import balancing, epoch_kept, rate_in_words, threads_of
from zoo.finetune.facts import CutFacts, NetworkFacts
from zoo.finetune.phases import Phase, phases_of, rows_of, scales_features
from zoo.head.kinds import kind_of
from zoo.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done.

    preprocess: with the recipe's fit. engine: of the frozen part. views: 0 draws a new view in
    every epoch; view_seed: what they are drawn from. threads: of the trained part. best: what
    chooses the epoch that is kept. reasons: of `lr`, `threads`, `views`, `flip`, `best`, `solver`,
    `balance` and `engine`; `ran` is the engine that has computed the features of a job.
    """

    recipe: Recipe
    index: DatasetIndex
    facts: NetworkFacts
    preprocess: Preprocess
    device: Device
    engine: str
    phases: tuple[Phase, ...]
    views: int
    view_seed: int
    threads: int
    best: str
    balance: str
    class_weights: tuple[float, ...] | None
    reasons: dict[str, str]

    @property
    def cut(self) -> CutFacts:
        """Return the cut of the first phase."""
        return self.phases[0].cut

    @property
    def solver(self) -> str:
        """Return the name of the solver that trains the head."""
        return self.phases[0].solver

    @property
    def solved_only(self) -> bool:
        """Whether a solved head is all there is to train: torch has nothing to do."""
        return all(phase.solved for phase in self.phases)

    def standardises(self, phase: Phase) -> bool:
        """Return whether the head of a phase is trained in steps on standardised features."""
        return scales_features(self.phases) and phase is self.phases[0]

    @property
    def fresh(self) -> str | None:
        """Return the stage of the new head; None where every layer is new."""
        return self.facts.head if self.facts.trained else None

    @property
    def train_views(self) -> Views:
        """Return the views of each training photo."""
        return Views(tuple(range(self.views)), self.view_seed, bool(self.recipe.flip))

    @property
    def rows(self) -> int:
        """Return how many views of photos there are features of."""
        return rows_of(self.index, self.views)

    @property
    def feature_bytes(self) -> int:
        """Return the bytes of all features that are kept."""
        return self.rows * sum(phase.cut.feature_bytes for phase in self.phases if phase.kept)


def plan_of(asked: Asked, facts: NetworkFacts) -> Plan:
    """Return the plan. Raises UsageError for one that cannot be carried out."""
    recipe, index = asked.recipe, asked.index
    preprocess = replace(facts.preprocess, fit=recipe.fit or facts.preprocess.fit)
    phases, views, reasons = phases_of(recipe, facts, preprocess, index)
    threads, threads_why = threads_of(recipe, facts, len(index.classes), asked.device)
    best, best_why = epoch_kept(recipe, index)
    if all(phase.solved for phase in phases):
        best = "computed" if kind_of(recipe.head).computed else "optimum"
        best_why = "no epoch is chosen on the val photos"
    if recipe.head == "text":
        best_why = "the val photos choose how much the class names count"
    reasons["rows"] = head_rows.told(facts, index.classes, recipe.head, phases[0].solved)
    balance, class_weights, balance_why = balancing(recipe, index)
    reasons |= {
        "lr": rate_in_words(recipe, facts.trained, scales_features(phases)),
        "threads": threads_why,
        "best": best_why,
        "balance": balance_why,
    }
    plan = Plan(
        recipe=recipe,
        index=index,
        facts=facts,
        preprocess=preprocess,
        device=asked.device,
        engine=asked.engine,
        phases=phases,
        views=views,
        view_seed=recipe.seed,
        threads=threads,
        best=best,
        balance=balance,
        class_weights=class_weights,
        reasons=asked.reasons | reasons,
    )
    checks.check_batches(plan.cut, len(index.of("train")) * max(1, views), recipe)
    checks.check_neighbours(recipe, plan.cut, len(index.of("train")) * views)
    checks.check_mixing(recipe, phases, preprocess)
    checks.check_old(recipe, facts)
    return plan
