"""Measuring: datasets, methods at equal budgets, simulated judges, runs, metrics and the report."""
