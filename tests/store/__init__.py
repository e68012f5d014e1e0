"""Tests of the store's own machinery: what the conformance suite cannot reach from outside."""
