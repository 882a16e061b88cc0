"""Fault 26: what monitors and proxies ask may be asked with HEAD, which answers as GET does, without its content."""

import httpx2
import pytest

from gates.rig.plain_http import PLAIN
from gates.rig.service import Service


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_answers_head(service: Service, path: str) -> None:
    asked, head = (service.call(None, method, path) for method in ("GET", "HEAD"))
    assert (asked.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-length"] == asked.headers["content-length"]


@pytest.mark.parametrize("path", ["/metrics", "/version"])
def test_the_operations_port_answers_head(service: Service, path: str) -> None:
    head = httpx2.head(f"http://127.0.0.1:{service.operations_port}{path}", **PLAIN)
    assert (head.status_code, head.content) == (200, b"")
