"""What Holdfast's own tests use and others may.

The conformance suite, the kill storm, power failures, the history checker and PostgreSQL servers.
Nothing is imported here: `holdfast.testing.conformance` needs pytest, `holdfast.testing.powerloss`
apsw and `holdfast.testing.postgres` a server's wheel; this package does not.
"""
