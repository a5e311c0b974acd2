"""How fast zoo is, beside what one would use instead. See README.md; `python -m benchmarks.NAME`.

Nothing here is imported by zoo. Every job is a process of its own, measured from outside.
"""
