"""Fine-tuning: features once, a head on them, and as much of the network as is asked for.

Where it begins, in the order of the story:

    asked            the recipe, its photos and the machine, looked at before anything is computed
    facts, examine   what planning must know of a network: kept (`kept_facts`), or found with torch;
                     `catalogued` tells it by a row of the catalogue and a file
    plan, phases     what will be done, from facts, photos and settings; `choices` has the reasons,
                     `checks` what is refused, `describe` the words
    head_rows        rows of a run's head for classes that the new run shares with it
    prepare, begin   the network and the run folder for a plan; `place` names the folder
    job              the story: for each phase inputs and a fit, then results and repetitions
    inputs           the batches of a phase: features computed once, or photos in each epoch;
                     `readable` says which photos are left out, `sharing` divides the pass
    fed              what the network is fed of some photos, to be looked at before
    fit              a phase: a head that `solve` finds, or a training in steps
    journal          what a run goes on from: epochs, checkpoints, and why it stopped
    results          the saved network and what is known of it: `scored` on val and test photos,
                     with a temperature, `tables`, `agreement` with fp32, `pca_baseline` of
                     reconstructions
    repeats          the same again with other seeds or on folds
    rank, sweep, lr_finder   commands of their own over the same parts; `backbones` has the
                     networks to choose from, `auto` chooses one within `limits`; `pass_time` is
                     kept of a ranking
    text_rows        the rows of a head that begins with class names, and their text tower
    teacher          a run whose answers are learned in the place of labels
    add_class        a class more for a finished run; `kept_features` are those of its photos
    events           what is told on the way

Whoever is new here reads these files in this order, in 20 minutes or so:

    zoo/finetune/__init__.py
    zoo/cli/finetune.py
    zoo/cli/finetune_job.py
    zoo/settings/__init__.py
    zoo/finetune/facts.py
    zoo/finetune/plan.py
    zoo/models/cut.py
    zoo/finetune/job.py
    zoo/finetune/inputs.py
    zoo/features/compute.py
    zoo/head/solver.py
    zoo/finetune/results.py

And then, for training in steps:

    zoo/finetune/fit.py
    zoo/train/loop.py
    zoo/train/step.py
    zoo/train/recovery.py
"""
