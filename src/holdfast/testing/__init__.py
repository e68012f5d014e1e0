"""What Holdfast's own tests use and others may: the conformance suite, the kill storm.

Nothing is imported here: `holdfast.testing.conformance` needs pytest, this package does not.
"""
