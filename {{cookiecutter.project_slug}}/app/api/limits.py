"""How often: requests by client address, refused credentials by address, requests and new runs by member.

The limits are data, in config/limits.toml. They count across processes where RATE_LIMIT_STORAGE_URL names a storage,
else in each process (`limit_storage`); budgets and caps, which bound what it costs, are shared anyway. Gate: security.
"""

import ipaddress
import time
from datetime import timedelta

from limits import RateLimitItem, parse
from pydantic import BaseModel, ConfigDict, field_validator
from starlette.requests import HTTPConnection

from app.api.limit_storage import LimitStorage
from app.config_files import read_config
from app.errors import RateLimited
from app.settings import Settings


class Table(BaseModel):
    """`<number>/<second|minute|hour|day>` each."""

    model_config = ConfigDict(extra="forbid")

    address: str = "3000/minute"  # every request of a client address
    refused: str = "20/minute"  # refused credentials of a client address
    member: str = "1200/minute"  # requests of a member
    costly: str = "300/minute"  # runs that a member starts
    sign_in: str = "60/minute"  # answers of the identity provider that a client address brings: each asks it back

    @field_validator("*")
    @classmethod
    def _readable(cls, limit: str) -> str:
        try:
            parse(limit)
        except ValueError:
            raise ValueError(f"{limit!r} is not a limit such as 20/minute") from None
        return limit


class LimitsFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limits: Table = Table()


class RateLimits:
    def __init__(self, table: Table, storage: LimitStorage) -> None:
        self._items: dict[str, RateLimitItem] = {name: parse(limit) for name, limit in table.model_dump().items()}
        self._storage = storage

    @classmethod
    def load(cls, settings: Settings) -> "RateLimits":
        """Raises SettingsInvalid naming a limit that cannot be read, or a storage that cannot be used."""
        table = read_config(settings.config_dir / "limits.toml", LimitsFile).limits
        return cls(table, LimitStorage.of(settings))

    @property
    def are_shared(self) -> bool:
        """Whether all processes count together."""
        return self._storage.shared is not None

    async def close(self) -> None:
        await self._storage.close()

    async def count(self, name: str, who: str) -> None:
        """Count one more of `who`. Raises RateLimited, with the time after which it is worth another try."""
        item = self._items[name]
        if await self._storage.hit(item, name, who):
            return
        wait = timedelta(seconds=max(1.0, await self._storage.reset_time(item, name, who) - time.time()))
        raise RateLimited((name, item.amount, item.get_expiry()), wait)


def address_of(connection: HTTPConnection) -> str:
    """The client's address: the peer's, or what a trusted proxy says (TRUSTED_PROXIES). Of IPv6 the network.

    One customer has a whole /64 of IPv6 addresses, and would never meet a limit on single ones."""
    host = connection.client.host if connection.client else ""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((int(ip), 64), strict=False).network_address)
