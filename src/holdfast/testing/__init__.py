"""What Holdfast's own tests use and others may.

The conformance suite, the kill storm, and the history checker. Nothing is imported here:
`holdfast.testing.conformance` needs pytest, this package does not.
"""
