"""What a finished fine-tune is: its network, with a temperature in the head, and its scores."""

from __future__ import annotations

from dataclasses import asdict, replace

from zoo import __version__, weights
from zoo.finetune import agreement, scored, tables
from zoo.finetune.events import Finished
from zoo.finetune.fit import Fitted
from zoo.finetune.inputs import Inputs
from zoo.finetune.pca_baseline import baseline_of
from zoo.finetune.teacher import Teacher, compare
from zoo.head.distance import Distance
from zoo.head.layers import Layer
from zoo.head.temperature import Calibration
from zoo.metrics import Array
from zoo.models.head import fold_temperature
from zoo.run import DISTANCE, Run
from zoo.weights import hf_config


def finish(inputs: Inputs, fitted: Fitted) -> Finished:
    """Calibrate and save the network, and write down what the val and the test photos say.

    run.json is written once, when all of it is known.
    Raises DisagreementError where a solved head in a lower precision says other than in fp32.
    """
    plan, run, loop = inputs.plan, inputs.run, fitted.loop
    about = {"zoo": __version__, "model": plan.recipe.model}
    place, baseline = run.path("model.safetensors"), None
    if fitted.head:
        assert fitted.scores.outputs is not None
        agrees = agreement.of_head(inputs, fitted.head, fitted.scores.outputs)
        calibration = scored.calibrate(inputs, fitted)
        state = _state(inputs, fitted.head, calibration)
        digest = weights.save_arrays(state, place, about)
        run.record.update(linear_head=plan.facts.head)
    else:
        assert loop is not None
        calibration = scored.calibrate(inputs, fitted)
        if calibration:
            fold_temperature(loop.model, plan.facts.head, calibration.temperature)
        weights.save(inputs.prepared.network().chain.state_dict(), place, about)
        digest = weights.hash_of(place)
        agrees = agreement.of_network(inputs)
        if plan.recipe.task == "reconstruct":
            baseline = baseline_of(inputs.prepared.network(), loop.batches)
    if fitted.distance is not None:
        keep(run, fitted.distance)
    best_epoch = loop.state.best_epoch if loop else 1
    done = Finished(fitted.scores, baseline, best_epoch, agrees, 0.0, calibration)
    if fitted.test:
        done = replace(done, test=scored.test(run, inputs.index, fitted.test, calibration))
    tables.write_results(run, done)
    run.update(
        model_sha256=digest,
        best_epoch=best_epoch,
        skipped_steps=loop.state.skipped if loop else 0,
        agreement_with_fp32=agrees,
    )
    hf_config.keep_beside(place, run.record)
    if plan.recipe.teacher:
        _compare_with(Teacher.of(plan.recipe.teacher, plan.device), inputs)
    return done


def keep(run: Run, distance: Distance) -> None:
    """Write the distance from the training photos beside the network of a run."""
    about = {"zoo": __version__, "model": run.record["model"]}
    digest = weights.save_arrays(distance.arrays(), run.path(DISTANCE), about)
    run.record.update(distance_sha256=digest)


def _compare_with(teacher: Teacher, inputs: Inputs) -> None:
    """Measure the run beside its teacher, and say so."""
    beside = compare(teacher, inputs.run, inputs.progress)
    inputs.run.update(distilled=asdict(beside))
    inputs.watch.tell(beside)


def _state(inputs: Inputs, layer: Layer, calibration: Calibration | None) -> dict[str, Array]:
    """Return the tensors of the network as it was, with the new head."""
    prepared, opened, head = inputs.prepared, inputs.opened, inputs.plan.facts.head
    if prepared.built is None and opened and opened.compiled:
        state = opened.compiled.state()
    else:
        chain = prepared.network().chain
        state = {n: value.cpu().numpy() for n, value in chain.state_dict().items()}
    rest = {name: array for name, array in state.items() if not name.startswith(f"{head}.")}
    layer = layer.divided(calibration.temperature if calibration else 1.0)
    return rest | {f"{head}.{name}": array for name, array in layer.arrays.items()}
