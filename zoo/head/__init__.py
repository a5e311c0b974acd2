"""Heads, found and calibrated in NumPy and SciPy; torch is never imported here.

kinds, layers      their names, and what each is in a network: arrays, and scores of features
solver             the linear head's optimum; softmax_regression has the arithmetic, lbfgs how a
                   minimum is found, rows what it is done on, stored what of that lies in a
                   file, threads the cores
penalty, cross_validation, folds   how strong the penalty is, and what photos held out say
prototype, neighbours   class means and nearest photos, computed from features
text               rows of class names, blended with rows of photos
added              a class more for a head that is there
suspicious         labels that are probably wrong, from probabilities out of fold
temperature        the calibration of all of them
"""
