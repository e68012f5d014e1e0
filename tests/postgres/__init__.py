"""PostgreSQL: the servers of the tests, and what may happen to them."""
