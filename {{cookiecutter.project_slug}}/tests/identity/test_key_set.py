"""The provider's keys are fetched once for everybody who waits, whoever of them is cancelled."""

import asyncio
import json
from contextvars import ContextVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from app.errors import AuthUnavailable, Unauthenticated
from app.identity.oidc import KeySet

pytestmark = pytest.mark.anyio
caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Provider:
    def __init__(self) -> None:
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        key = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True) | {"kid": "k1", "use": "sig", "alg": "ES256"}
        self.document, self.go_on = json.dumps({"keys": [key]}), asyncio.Event()
        self.asked: list[str] = []

    async def fetch(self, _url: str) -> str:
        self.asked.append(caller.get())
        await self.go_on.wait()
        return self.document


async def test_a_caller_that_is_cancelled_takes_the_keys_from_nobody() -> None:
    provider = Provider()
    keys = KeySet("https://idp.test/keys", provider.fetch)
    caller.set("a stranger")
    first = asyncio.create_task(keys.find("k1"))
    others = [asyncio.create_task(keys.find("k1")) for _ in range(20)]
    while not provider.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await keys.find("k1")
    provider.go_on.set()
    assert {key.kind for key in await asyncio.gather(*others)} == {"EC"}
    assert provider.asked == ["nobody"], "one fetch, in nobody's context"


async def test_a_provider_that_is_away_is_not_asked_by_everybody() -> None:
    provider = Provider()
    provider.document = "<html>"
    provider.go_on.set()
    keys = KeySet("https://idp.test/keys", provider.fetch)
    found = await asyncio.gather(*(keys.find("k1") for _ in range(20)), return_exceptions=True)
    assert {type(each) for each in found} == {AuthUnavailable}
    assert len(provider.asked) == 1


async def test_a_key_that_is_not_there_is_asked_for_once_in_a_while() -> None:
    provider = Provider()
    provider.go_on.set()
    keys = KeySet("https://idp.test/keys", provider.fetch)
    await keys.find("k1")
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await keys.find("k2")
    assert len(provider.asked) == 1
