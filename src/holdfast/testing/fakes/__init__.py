"""Servers on loopback that speak a provider's or a platform's protocol, for tests."""
