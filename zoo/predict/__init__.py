"""The verb predict: which files, which network, one row for each, in order."""
