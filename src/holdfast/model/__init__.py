"""Frozen values without any I/O: what the rules, the stores and the callers hand to each other."""
