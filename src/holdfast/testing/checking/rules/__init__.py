"""The promises, each file a few that belong together: a case in, violations added to it."""
