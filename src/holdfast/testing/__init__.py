"""What Holdfast's own tests use and others may: conformance suite, kill storm, power loss.

Nothing is imported here: `holdfast.testing.conformance` needs pytest and
`holdfast.testing.powerloss` apsw, this package does not.
"""
