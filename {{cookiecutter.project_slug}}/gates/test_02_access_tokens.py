"""Gate 2, access: what a provider's token must be before anybody believes it."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.issuer import AUDIENCE, Issuer, encoded, issuer, new_key, signed
from gates.rig.people import Person
from gates.rig.world import World

BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@contextmanager
def _signed_in(new_world: NewWorld, trusted: Issuer) -> Iterator[tuple[World, Person]]:
    with new_world(**trusted.settings) as world:
        [who] = world.people(["probe_reader"])
        world.sql("UPDATE members SET issuer = ?, subject = ? WHERE id = ?", trusted.url, "ada", who.member_id)
        yield world, who


def _status(world: World, token: str) -> int:
    answer = world.service.call(None, "GET", "/v1/runs", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


def _unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    return f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}.{signature}"


def _claims(trusted: Issuer, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": trusted.url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300, **changes}


def _hmac(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    told = _unsigned(header, claims).rstrip(".")
    return f"{told}.{encoded(hmac.new(secret, told.encode(), hashlib.sha256).digest())}"


def _algorithms(trusted: Issuer) -> dict[str, str]:
    """Confusions of the algorithm (RFC 8725, 3.1 and 3.2)."""
    claims = _claims(trusted)
    head = {"typ": "at+jwt", "kid": "k1"}
    table = {
        f"alg {name}": _unsigned({**head, "alg": name}, claims) for name in ("none", "None", "NONE", "nOnE", "", None)
    }
    public = json.dumps(trusted.jwk("k1")).encode()
    for what, secret in {"blank": b"", "the public key": public, "the key's id": b"k1", "a zero": b"\0"}.items():
        table[f"HS256 with {what}"] = _hmac({**head, "alg": "HS256"}, claims, secret)
    for other in ("RS384", "PS256", "ES256", "EdDSA", "rs256"):
        table[f"signed by RS256, called {other}"] = trusted.token("ada", header={"alg": other})
    return table


def _signatures(trusted: Issuer, good: str) -> dict[str, str]:
    head, body, signature = good.split(".")
    other = trusted.token("somebody-else").split(".")
    last = BASE64[BASE64.index(signature[-1]) ^ 1]  # differs only in bits that carry nothing
    return {
        "no signature": f"{head}.{body}.",
        "no third part": f"{head}.{body}",
        "half a signature": f"{head}.{body}.{signature[: len(signature) // 2]}",
        "another token's signature": f"{head}.{body}.{other[2]}",
        "another token's claims": f"{head}.{other[1]}.{signature}",
        "a stranger's key": trusted.token("ada", key=new_key()),
        "loose bits at the end": f"{head}.{body}.{signature[:-1]}{last}",
        "padding": f"{head}.{body}.{signature}==",
        "a line break within": f"{head}.{body[:9]}\t{body[9:]}.{signature}",
        "four parts": f"{good}.{signature}",
        "five parts": f"{head}.{body}.{signature}.{body}.{signature}",
    }


def _keys(trusted: Issuer, evil: Issuer) -> dict[str, str]:
    """Tokens that say where their key is to be found, or which one it is, to a verifier that believes them."""
    mine = evil.keys["k1"]
    place = {"jku": f"{evil.url}/jwks", "x5u": f"{evil.url}/x5u", "jwk": evil.jwk("k1"), "x5c": ["MIIB"]}
    table = {f"{name} in the header": trusted.token("ada", key=mine, header={name: v}) for name, v in place.items()}
    table |= {f"{name} and no kid": trusted.token("ada", key=mine, header={name: v, "kid": None})
              for name, v in place.items()}  # fmt: skip
    for kid in ("../../../../dev/null", "k1' OR '1'='1", "k1\0", "K1", "", f"{evil.url}/jwks", "|cat /etc/passwd"):
        table[f"kid {kid!r}"] = trusted.token("ada", key=mine, header={"kid": kid})
    table["kid a number"] = trusted.token("ada", header={"kid": 1})
    table["kid a list"] = trusted.token("ada", header={"kid": ["k1"]})
    table["an encryption key"] = trusted.token("ada", kid="encrypts")
    table["a key for signing only"] = trusted.token("ada", kid="signs")
    table["a key for another algorithm"] = trusted.token("ada", kid="other")
    table["an id that two keys share"] = trusted.token("ada", kid="twin")
    return table


def _claims_table(trusted: Issuer) -> dict[str, str]:
    now = int(time.time())
    changes: dict[str, dict[str, Any]] = {
        "expired": {"exp": now - 60},
        "no exp": {"exp": None},
        "exp as text": {"exp": str(now + 300)},
        "exp a list": {"exp": [now + 300]},
        "not yet valid": {"nbf": now + 300},
        "issued in the future": {"iat": now + 300},
        "no iat": {"iat": None},
        "another issuer": {"iss": "https://evil.rig.test"},
        "the issuer with a slash": {"iss": f"{trusted.url}/"},
        "issuers as a list": {"iss": [trusted.url]},
        "no issuer": {"iss": None},
        "another audience": {"aud": "https://other.rig.test"},
        "part of the audience": {"aud": AUDIENCE[:-1]},
        "more than the audience": {"aud": f"{AUDIENCE}.evil.test"},
        "other audiences": {"aud": ["https://a.rig.test", "https://b.rig.test"]},
        "no audience": {"aud": None},
        "no subject": {"sub": None},
        "an empty subject": {"sub": ""},
        "a number as subject": {"sub": 7},
        "a subject nobody has": {"sub": "eve"},
        "a subject in capitals": {"sub": "ADA"},
    }
    return {what: trusted.token("ada", **changed) for what, changed in changes.items()}


def _shapes(trusted: Issuer) -> dict[str, str]:
    """What parsers read differently, and tokens for something else (RFC 8725, 3.11)."""
    key, claims = trusted.keys["k1"], json.dumps(_claims(trusted)).encode()
    head = b'{"alg": "RS256", "typ": "at+jwt", "kid": "k1"}'
    table = {f"typ {kind!r}": trusted.token("ada", header={"typ": kind})
             for kind in ("JWT", "rt+jwt", "logout+jwt", "dpop+jwt", None, 7)}  # fmt: skip
    table |= {
        "crit": trusted.token("ada", header={"crit": ["exp"]}),
        "b64 false": trusted.token("ada", header={"b64": False}),
        "a claim twice": signed(head, claims[:-1] + b', "sub": "ada"}', key),
        "an issuer twice": signed(head, b'{"iss": "https://evil.rig.test", ' + claims[1:], key),
        "alg twice": signed(b'{"alg": "none", ' + head[1:], claims, key),
        "kid twice": signed(b'{"kid": "k9", ' + head[1:], claims, key),
        "claims in UTF-16": signed(head, claims.decode().encode("utf-16"), key),
        "a byte order mark": signed(head, b"\xef\xbb\xbf" + claims, key),
        "claims no object": signed(head, b'["ada"]', key),
        "a header no object": signed(b'"RS256"', claims, key),
        "NaN": signed(head, claims[:-1] + b', "x": NaN}', key),
        "a huge one": trusted.token("ada", filler="x" * 9_000),
        "depth": signed(head, claims[:-1] + b', "x": ' + b"[" * 3_000 + b"]" * 3_000 + b"}", key),
    }
    return table


@pytest.mark.timeout(2_800)
@control("AUT-02", cases=89)
def test_a_token_is_believed_only_when_everything_about_it_is_right(proof: Proof, new_world: NewWorld) -> None:
    with issuer() as trusted, issuer() as evil:
        for kid in ("encrypts", "signs", "other", "twin"):
            trusted.keys[kid] = new_key()
        published = [trusted.jwk(kid) for kid in ("encrypts", "signs", "other", "twin")]
        changes: list[dict[str, Any]] = [{"use": "enc"}, {"key_ops": ["sign"]}, {"alg": "RS512"}, {}]
        hidden = {kid: trusted.keys.pop(kid) for kid in ("encrypts", "signs", "other", "twin")}
        trusted.published = [{**jwk, **changed} for jwk, changed in zip(published, changes, strict=True)]
        trusted.published.append({**trusted.jwk("k1"), "kid": "twin"})
        with _signed_in(new_world, trusted) as (world, who):
            good = trusted.token("ada")
            with proof.positive("a good token is let in, and so is a member's key"):
                assert _status(world, good) == 200
                assert _status(world, who.key) == 200
                assert _status(world, trusted.token("ada", aud=["https://x.rig.test", AUDIENCE])) == 200
            fetched = trusted.fetched
            trusted.keys |= hidden
            groups = {
                "algorithm": _algorithms(trusted),
                "signature": _signatures(trusted, good),
                "key-source": _keys(trusted, evil),
                "claims": _claims_table(trusted),
                "shape": _shapes(trusted),
            }
            for assertion, table in groups.items():
                for what, token in table.items():
                    proof.same(assertion, _status(world, token), 401, what)
            proof.same("key-source", evil.fetched, 0, "fetches at an address that a token named:")
            proof.holds(
                "key-source", trusted.fetched - fetched <= 1, f"{trusted.fetched - fetched} fetches for guesses"
            )
            proof.same("still-works", _status(world, good), 200, "a good token after all that:")


@control("AUT-02", cases=7)
def test_keys_rotate_and_outlive_a_provider_that_is_away(proof: Proof, new_world: NewWorld) -> None:
    with issuer() as trusted:
        trusted.keys["k2"] = new_key()
        later = trusted.keys.pop("k2")
        with _signed_in(new_world, trusted) as (world, who):
            with proof.positive("a token of the first key is let in"):
                assert _status(world, trusted.token("ada")) == 200
            trusted.down = True
            proof.same("still-works", _status(world, trusted.token("ada")), 200, "with the provider away:")
            trusted.down = False
            trusted.keys["k2"] = later
            world.clock.advance(timedelta(seconds=31))  # how often a missing key is asked for
            proof.same("rotates", _status(world, trusted.token("ada", kid="k2")), 200, "the provider's next key:")
            world.clock.advance(timedelta(minutes=11))
            hidden = trusted.keys.pop("k1")
            later_on = int(time.time()) + 7_200  # the service's clock has moved on
            proof.same("still-works", _status(world, trusted.token("ada", kid="k2", exp=later_on)), 200)
            old = trusted.token("ada", kid="k1", key=hidden, exp=later_on)
            proof.same("rotates", _status(world, old), 401, "a key taken back:")
            world.sql("UPDATE members SET disabled_at = created_at WHERE id = ?", who.member_id)
            proof.same(
                "member", _status(world, trusted.token("ada", kid="k2", exp=later_on)), 401, "a disabled member:"
            )
    with issuer() as away:
        away.down = True
        with _signed_in(new_world, away) as (world, who):
            proof.same("fails-closed", _status(world, away.token("ada")), 503, "no key was ever fetched:")
            proof.same("fails-closed", _status(world, who.key), 200, "a key needs no provider:")
