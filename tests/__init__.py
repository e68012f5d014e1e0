"""Run by make test; each docstring in here is a promise."""
