"""`make test-oidc`: sign-in and access tokens against a certified OpenID provider, node-oidc-provider. Needs Node.js.

The proofs of AUT-02 use a provider of the rig's that signs whatever it is told; this one follows the specifications, so
what holds here holds with a provider that is not ours: the code flow with PKCE, wrong verifiers and audiences, rotated
keys, a provider that is away.
"""

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from itsdangerous import URLSafeTimedSerializer
from jwt.algorithms import RSAAlgorithm

from app.console.session import ATTEMPT
from app.identity.sign_in import Attempt
from app.runtime import Runtime
from gates.node import install
from gates.rig.databases import sqlite_databases
from gates.rig.environment import isolate
from gates.rig.people import Person
from gates.rig.service import Service, free_ports, running, wait_for

HERE = Path(__file__).parent
PACKAGE = "oidc-provider@9"
CLIENT, SECRET = "console", "not-a-secret-but-long-enough-for-a-test"  # as in provider.mjs
AUDIENCE, OTHER = "https://api.desk.test", "https://other.desk.test"
SESSION_SECRET = "for-these-checks-only-and-long-enough"


def main() -> None:
    isolate()
    with tempfile.TemporaryDirectory(prefix="oidc-") as folder:
        home = Path(folder)
        install(home, PACKAGE)
        shutil.copy(HERE / "provider.mjs", home)
        with sqlite_databases(home / "databases") as new:
            Checks(home, new()).run()


@contextmanager
def _provider(home: Path, port: int, redirect: str, keys: dict[str, RSAPrivateKey]) -> Iterator[None]:
    """The provider, until the block ends."""
    secret = [
        {**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": kid, "use": "sig", "alg": "RS256"}
        for kid, key in keys.items()
    ]
    published = [{name: value for name, value in key.items() if name != "key_ops"} for key in secret]
    settings = json.dumps({"port": port, "redirect": redirect, "keys": published})
    with (home / "provider.log").open("ab") as log:
        process = subprocess.Popen(["node", "provider.mjs", settings], cwd=home, stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(port))
        yield
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/jwks", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


class Checks:
    def __init__(self, home: Path, database_url: str) -> None:
        self.home, self.database_url = home, database_url
        self.port, self.desk_port = free_ports(2)
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.desk = f"http://127.0.0.1:{self.desk_port}"
        self.redirect = f"{self.desk}/console/signed-in"
        self.failed = 0

    def run(self) -> None:
        keys = {"k1": generate_private_key(65537, 2048)}
        settings = {
            "PUBLIC_URL": self.desk, "SESSION_SECRET": SESSION_SECRET, "OIDC_ISSUER": self.issuer,
            "OIDC_AUDIENCE": AUDIENCE, "OIDC_JWKS_URL": f"{self.issuer}/jwks", "OIDC_CLIENT_ID": CLIENT,
            "OIDC_CLIENT_SECRET": SECRET, "OIDC_AUTHORIZATION_URL": f"{self.issuer}/auth",
            "OIDC_TOKEN_URL": f"{self.issuer}/token",
        }  # fmt: skip
        with running(self.database_url, self.home, **settings) as service:
            [admin] = service.people(["admin", "viewer"])
            self._link(service, admin)
            with _provider(self.home, self.port, self.redirect, keys):
                token = self._token(AUDIENCE)
                self._sign_in(service)
                self._refused(service)
                self._tokens(service, token)
            self.check("with the provider away, a token is still checked", self._status(service, token), 200)
            self.check("with the provider away, nobody signs in", self._callback(service)[0], 503)
            keys["k2"] = generate_private_key(65537, 2048)
            with _provider(self.home, self.port, self.redirect, {"k2": keys["k2"]}):
                time.sleep(31)  # how often a missing key is asked for
                self.check("a token of the next key", self._status(service, self._token(AUDIENCE)), 200)
                self.check("a token of the key before", self._status(service, token), 401)
        print(f"{'HOLDS' if not self.failed else 'BROKEN'}: {self.failed} failed")
        raise SystemExit(1 if self.failed else 0)

    def check(self, what: str, seen: object, expected: object) -> None:
        good = seen == expected
        self.failed += not good
        print(f"  {'✔' if good else '✘'} {what}: {seen}{'' if good else f' instead of {expected}'}", flush=True)

    def _link(self, service: Service, admin: Person) -> None:
        async def link(runtime: Runtime) -> None:
            members = replace(runtime.members, issuer=self.issuer)
            await members.add(admin.tenant_id, "Ada", ["viewer"], "test", subject="ada")

        service.inside(link)

    def _sign_in(self, service: Service) -> None:
        """As a person's browser does it."""
        with httpx2.Client(base_url=service.base_url, trust_env=False) as browser:
            page = browser.get("/console/sign-in").text
            self.check("the page offers it", "/console/sign-in/provider" in page, True)
            begun = browser.get("/console/sign-in/provider")
            back = self._log_in(begun.headers["location"])
            answered = browser.get(self._here(service, back))
            self.check("signed in", answered.status_code, 200)
            self.check("and let in", browser.get("/console").status_code, 200)
            self.check("by name", "Ada" in browser.get("/console").text, True)
            again = browser.get(self._here(service, back))
            self.check("the same answer once more", again.status_code, 401)

    def _refused(self, service: Service) -> None:
        self.check("a stranger to the directory", self._callback(service, login="eve")[0], 401)
        self.check("another state", self._callback(service, state="x")[0], 401)
        self.check("a code of nobody's", self._callback(service, code="x")[0], 401)
        self.check("another provider's answer", self._callback(service, iss="https://evil.test")[0], 401)
        self.check("a wrong verifier", self._callback(service, forged={"verifier": "v" * 64})[0], 401)
        self.check("another nonce", self._callback(service, forged={"nonce": "n" * 43})[0], 401)
        self.check("without having begun here", self._callback(service, forgets=True)[0], 401)

    def _callback(
        self, service: Service, *, login: str = "ada", forged: dict[str, str] | None = None, forgets: bool = False,
        **changes: str,
    ) -> tuple[int, str]:  # fmt: skip
        """Sign in with something changed on the way back; what the service says to it."""
        with httpx2.Client(base_url=service.base_url, trust_env=False) as browser:
            begun = browser.get("/console/sign-in/provider").headers["location"]
            try:
                back = self._log_in(begun, login)
            except httpx2.TransportError:  # the provider is away: an answer of before
                state = parse_qs(urlsplit(begun).query)["state"][0]
                back = f"{self.redirect}?code=x&state={state}"
            if forged:
                signer = URLSafeTimedSerializer(SESSION_SECRET, salt="sign-in")
                attempt = Attempt(**signer.loads(browser.cookies[ATTEMPT]))
                browser.cookies.clear()
                browser.cookies.set(ATTEMPT, signer.dumps(asdict(replace(attempt, **forged))))
            if forgets:
                browser.cookies.clear()
            parameters = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()} | changes
            answer = browser.get("/console/signed-in", params=parameters)
            return answer.status_code, answer.text

    def _tokens(self, service: Service, token: str) -> None:
        self.check("an access token for this API", self._status(service, token), 200)
        self.check("one for another API", self._status(service, self._token(OTHER)), 401)
        self.check("an identity token", self._status(service, self._token(AUDIENCE, kind="id_token")), 401)

    @staticmethod
    def _status(service: Service, token: str) -> int:
        return service.call(None, "GET", "/v1/runs", headers={"Authorization": f"Bearer {token}"}).status_code

    def _token(self, audience: str, kind: str = "access_token") -> str:
        """A token as another program gets one for the same person."""
        attempt = Attempt.new()
        asked = {
            "client_id": CLIENT, "response_type": "code", "redirect_uri": self.redirect, "scope": "openid api",
            "resource": audience, "state": attempt.state, "nonce": attempt.nonce,
            "code_challenge": attempt.challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        back = self._log_in(str(httpx2.URL(f"{self.issuer}/auth", params=asked)))
        form = {
            "grant_type": "authorization_code", "code": parse_qs(urlsplit(back).query)["code"][0],
            "redirect_uri": self.redirect, "client_id": CLIENT, "client_secret": SECRET,
            "code_verifier": attempt.verifier, "resource": audience,
        }  # fmt: skip
        told: dict[str, Any] = httpx2.post(f"{self.issuer}/token", data=form, trust_env=False).json()
        return str(told[kind])

    def _log_in(self, address: str, login: str = "ada") -> str:
        """Fill the provider's forms in until it sends the browser back; where to."""
        with httpx2.Client(base_url=self.issuer, trust_env=False) as browser:
            answer = browser.get(address)
            while not answer.headers.get("location", "").startswith(self.redirect):
                if answer.is_redirect:
                    answer = browser.get(answer.headers["location"])
                    continue
                found = {name: re.search(form, answer.text) for name, form in FORMS.items()}
                if not all(found.values()):
                    raise AssertionError(f"no form of the provider's: {answer.status_code} {answer.text[:200]}")
                action, prompt = (match[1] for match in found.values() if match)
                answer = browser.post(action, data={"prompt": prompt, "login": login, "password": "x"})
            return answer.headers["location"]

    def _here(self, service: Service, back: str) -> str:
        """The address to come back to, at the port that the service has."""
        return back.replace(self.desk, service.base_url)


FORMS = {"action": r'action="([^"]+)"', "prompt": r'name="prompt" value="([^"]+)"'}

if __name__ == "__main__":
    main()
