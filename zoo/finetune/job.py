"""One fine-tune, from a Plan to a finished run folder. It tells its Watch what happens."""

from __future__ import annotations

from dataclasses import replace

from zoo.finetune import fit, repeats, results
from zoo.finetune.events import Finished
from zoo.finetune.inputs import Inputs
from zoo.finetune.journal import Journal
from zoo.finetune.prepare import Prepared
from zoo.run import Run
from zoo.train.distributed import SINGLE, Ranks
from zoo.watch import Muted, Watch


class Job:
    """A plan to be carried out in a run folder.

    In a team all processes do, and tell the same; the first one alone writes to the folder.
    """

    def __init__(self, prepared: Prepared, run: Run, watch: Watch, ranks: Ranks = SINGLE) -> None:
        self.plan, self.watch, self.ranks = prepared.plan, watch, ranks
        self.inputs = Inputs(prepared, run, watch, ranks)
        self.journal = Journal(run, watch, ranks, prepared.plan.recipe, prepared.began)


def run(job: Job) -> Finished | None:
    """Carry a job out, or go on with it where it was; return what came of it.

    The first process of a team alone has that to return. Raises Interrupted and DiskFull with all
    kept that a resume needs, TrainingError and DisagreementError where nothing can go on.
    """
    with job.journal.kept():
        initial, fitted = repeats.initial(job.inputs.prepared), None
        for number in range(job.journal.phase(), len(job.plan.phases)):
            fitted = fit.phase(job.inputs, job.journal, number, fitted)
        if fitted is None or not job.ranks.main:
            return None
        with job.journal.refusing():
            done = results.finish(job.inputs, fitted)
        evidence = repeats.run(
            job.inputs, initial, lambda other, to: run(Job(other, to, Muted(job.watch)))
        )
        return job.journal.finish(replace(done, evidence=evidence))
