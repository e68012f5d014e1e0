"""What tests of processes have to know of the store that an address leads to."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

from holdfast.store.sources import Sources


def is_postgres(url: str) -> bool:
    """Say whether an address leads to a PostgreSQL server."""
    return url.startswith("postgresql:")


def fewer(url: str, count: int) -> int:
    """Return how often to do what is done so often on a file: on a server a quarter, or twice."""
    return max(2, count // 4) if is_postgres(url) else count


def slow_sources(url: str, delay_s: float) -> Sources:
    """Return sources whose time comes late: a SQLite store asks for it inside the transaction.

    A PostgreSQL server goes by a clock of its own: `slow_down` is for that.
    """

    def now_ms() -> int:
        time.sleep(delay_s)
        return time.time_ns() // 1_000_000

    return Sources() if is_postgres(url) else Sources(now_ms=now_ms)


def slow_down(url: str, delay_s: float) -> None:
    """Let a PostgreSQL store be slow inside its transactions: with every row that it has locked."""
    import psycopg

    name = schema_of(url)
    with psycopg.connect(server_of(url), autocommit=True) as connection:
        connection.execute(
            f"""CREATE FUNCTION {name}.be_slow() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep({delay_s}); RETURN new; END $$;
                CREATE TRIGGER slow BEFORE UPDATE ON {name}.sessions
                FOR EACH ROW EXECUTE FUNCTION {name}.be_slow()""".encode()
        )


def schema_of(url: str) -> str:
    """Return the schema of a PostgreSQL store."""
    return parse_qs(urlsplit(url).query).get("schema", ["holdfast"])[0]


def server_of(url: str) -> str:
    """Return the address of a PostgreSQL store without what only Holdfast understands."""
    return urlsplit(url)._replace(query="").geturl()
