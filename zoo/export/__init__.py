"""The verb export: one file that gives the same answers, or no file."""
