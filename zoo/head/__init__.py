"""The linear head, solved and calibrated in NumPy and SciPy; torch is never imported here."""
