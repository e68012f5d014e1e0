"""What Holdfast's own tests use and others may.

The conformance suite, the kill storm, power failures and the history checker. Nothing is imported
here: `holdfast.testing.conformance` needs pytest and `holdfast.testing.powerloss` apsw; this
package does not.
"""
