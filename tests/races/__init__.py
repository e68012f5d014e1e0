"""Races with real processes, and with delays inside the critical step."""
