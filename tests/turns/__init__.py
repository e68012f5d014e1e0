"""Turns among real processes: killed, stopped, interrupted, in each other's way."""
