"""Pixels: which files there are, how they decode, and the Preprocess every command shares."""
