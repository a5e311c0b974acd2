"""Heads, found and calibrated in NumPy and SciPy; torch is never imported here.

kinds, layers      their names, and what each is in a network: arrays, and scores of features
solver             the linear head's optimum; softmax_regression has the arithmetic,
                   cross_validation and folds what is held out
prototype, neighbours   class means and nearest photos, computed from features
added              a class more for a head that is there
suspicious         labels that are probably wrong, from probabilities out of fold
temperature        the calibration of all of them
"""
