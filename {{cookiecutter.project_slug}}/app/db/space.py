"""Giving the space of deleted rows back, so that a SQLite file no longer holds what was deleted from it.

PostgreSQL's autovacuum does this by itself. Gate: observability.
"""

import sqlite3
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine


async def reclaim(engine: AsyncEngine) -> bool:
    """False where a reader or writer was in the way: try again later."""
    if engine.dialect.name != "sqlite":
        return True
    async with engine.connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        try:
            await (await raw.execute("VACUUM")).close()
            cursor = await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:
            return False
        [is_busy, *_] = await cursor.fetchone()
        await cursor.close()
    return not is_busy
