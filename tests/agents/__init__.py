"""Agents: runners, what drives them, and the agents themselves."""
