"""Training in steps: knows arrays, modules and settings, and neither Recipe, Plan nor Run.

loop.py          epochs: rows in order, the rate, which weights are best
step.py          one step: forward, loss, backward, all-reduce, clip, optimizer
recovery.py      what is done where a loss is not finite, or where memory ends
records.py       LoopSettings, Epoch, TrainState, Scores
batches.py       what goes in: from features, from photos
frozen.py        from photos through the frozen part
augment.py, mixup.py      what changes it in each epoch
losses.py        what is learnt, and how the validation photos are scored
optimizers.py, param_groups.py      what moves, how far
distributed.py   the ranks that torchrun starts
division.py      which of them has which rows, where each reads its own alone
checkpoint.py, loggers.py, trackers.py  what is written down on the way
"""
