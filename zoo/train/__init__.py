"""Training in steps: knows arrays, modules and settings, and neither Recipe, Plan nor Run."""
