"""Agents: who answers a conversation, in turns that are kept whatever happens."""
