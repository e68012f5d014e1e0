"""The store: a public face over an engine over a backend."""
