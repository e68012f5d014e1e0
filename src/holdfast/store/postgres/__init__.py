"""The PostgreSQL backend: one log for many machines."""
