"""What is looked at in an image, at rest and running. Each check returns sentences about what is wrong; none is good.

No container here has a network or a published port: what is asked is asked from inside.
"""

import io
import json
import re
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gates.containers.engine import Engine
from gates.rig.canaries import Canaries

USER = "10001:10001"
IMAGE_DIGEST = f"sha256:{'d1' * 32}"
HEALTHY_SECONDS = 600  # ten times what it takes: it ends what hangs
SECRET_NAME = re.compile(r"(SECRET|PASSWORD|TOKEN|API_KEY)", re.IGNORECASE)
HARDENED = (
    "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=200",
    "--memory=1g", "--tmpfs=/tmp",
)  # fmt: skip
SERVED = (
    "--env=ENVIRONMENT=test", "--env=DATABASE_URL=sqlite:////tmp/app.db", f"--env=IMAGE_DIGEST={IMAGE_DIGEST}",
    "--env=HTTP_PROXY=http://127.0.0.1:9", "--env=http_proxy=http://127.0.0.1:9", "--env=ALL_PROXY=http://127.0.0.1:9",
)  # fmt: skip
SERVE = "import os, subprocess as s; s.run(['app', 'migrate'], check=True); os.execvp('app', ['app', 'serve'])"
FILES = """
import hashlib, json, os
found = {}
for where, folders, files in os.walk("/app"):
    for name in [*folders, *files]:
        path = os.path.join(where, name)
        told = os.lstat(path)
        kind = "link" if os.path.islink(path) else "folder" if os.path.isdir(path) else "file"
        content = {"link": lambda: os.readlink(path), "folder": str,
                   "file": lambda: hashlib.sha256(open(path, "rb").read()).hexdigest()}[kind]()
        found[path] = [kind, told.st_mode & 0o7777, told.st_uid, told.st_gid, content]
print(json.dumps(found))
"""
INSIDE = """
import http.client, json
status = dict(line.split(":", 1) for line in open("/proc/1/status").read().splitlines())
def attempt(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.errno
    return 0
def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()
print(json.dumps({
    "uids": status["Uid"].split(), "gids": status["Gid"].split(), "capabilities": status["CapEff"].strip(),
    "new_privileges": status["NoNewPrivs"].strip(), "writes": {p: attempt(p) for p in ("/app/x", "/usr/x", "/etc/x")},
    "ready": ask(8000, "/readyz")[0], "version": json.loads(ask(9000, "/version")[1]),
}))
"""
SERVES = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=30)
connection.request("GET", "/livez")
sys.exit(connection.getresponse().status != 200)
"""
BILL = """
import json, subprocess, sys
from scripts.sbom import differences, installed, unexpected_pth
packages, folders = installed(sys.executable)
problems = [*differences(json.load(open("sbom.cdx.json")), packages), *unexpected_pth(folders)]
told = subprocess.run(["app", "bom", "--json"], capture_output=True, text=True, check=True).stdout
problems += [] if told == open("ai-bom.cdx.json").read() else ["ai-bom.cdx.json is not what app bom says"]
print(json.dumps(problems))
"""
Files = Mapping[str, list[str | int]]


def configuration(engine: Engine, image: str, commit: str) -> Iterator[str]:
    """What the image says of itself."""
    config = engine.inspected(image)["Config"]
    if config.get("User") != USER:
        yield f"it runs as {config.get('User') or 'root'} and not as {USER}"
    if not health_check(engine, image):
        yield "it has no health check"
    label = (config.get("Labels") or {}).get("org.opencontainers.image.revision")
    if label != commit:
        yield f"its label names the source {label} and not {commit}"
    for variable in config.get("Env") or ():
        if SECRET_NAME.search(variable.partition("=")[0]):
            yield f"its environment has {variable.partition('=')[0]}"


def health_check(engine: Engine, image: str) -> list[str]:
    """Its command as the engine has it: docker says it in one place, podman in another."""
    told = engine.inspected(image)
    return list((told["Config"].get("Healthcheck") or told.get("HealthCheck") or {}).get("Test") or ())


def files(engine: Engine, image: str) -> Files:
    """Kind, mode, owner and content of everything below /app, by path."""
    found: Files = json.loads(engine.python(image, FILES))
    return found


def modes(found: Files) -> Iterator[str]:
    """Everybody reads the code, root alone writes it."""
    wanted = {"folder": 0o555, "file": 0o444}
    for path, (kind, mode, uid, gid, _) in found.items():
        bits = int(mode)
        readable = kind == "link" or bits & wanted[str(kind)] == wanted[str(kind)]
        writable = kind != "link" and bits & 0o022
        if (uid, gid) != (0, 0) or writable or not readable:
            yield f"{path} has the mode {bits:o} of {uid}:{gid}"


def reproduced(first: Files, second: Files) -> Iterator[str]:
    """Two builds of the same source have the same files, to the byte."""
    for path in sorted(set(first) | set(second)):
        if first.get(path) != second.get(path):
            yield f"{path} differs between two builds"


def secrets(engine: Engine, image: str, canaries: Canaries) -> Iterator[str]:
    """No canary is in any layer, deleted files included, nor in the history or the configuration."""
    history = engine.told("history", "--no-trunc", image) + json.dumps(engine.inspected(image))
    for name in canaries.found_in(history.encode()):
        yield f"the history holds the secret of {name}"
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        saved = Path(folder) / "image.tar"
        engine.told("save", "-o", str(saved), image)
        seen = 0
        with tarfile.open(saved) as archive:
            for member in archive:
                layer = archive.extractfile(member) if member.isfile() else None
                if layer is None or member.name.endswith(".json"):
                    continue
                content = layer.read()
                try:
                    with tarfile.open(fileobj=io.BytesIO(content)) as each:
                        for name in _in_layer(each, canaries):
                            yield name
                        seen += 1
                except tarfile.ReadError:
                    continue  # no layer
        if not seen:
            yield "no layer could be read"


def _in_layer(layer: tarfile.TarFile, canaries: Canaries) -> Iterator[str]:
    wanted = {value.encode(): name for name, value in canaries.values.items()}
    for member in layer:
        file = layer.extractfile(member) if member.isfile() else None
        if file is not None:
            content = file.read()
            yield from (
                f"{member.name} holds the secret of {name}" for value, name in wanted.items() if value in content
            )


def health_fails_when_nothing_serves(engine: Engine, image: str) -> Iterator[str]:
    """A health check that is always well says nothing."""
    test = health_check(engine, image)
    with engine.running(image, "--network=none", command=["python", "-c", "import time; time.sleep(300)"]) as name:
        if engine.run("exec", name, *test[1:]).returncode == 0:
            yield "its health check says healthy where nothing serves"


def running(engine: Engine, image: str, commit: str) -> Iterator[str]:
    """Hardened, behind a proxy that leads nowhere: it serves, is healthy, has no powers, and ends when asked to."""
    with engine.running(image, *HARDENED, *SERVED, command=["python", "-c", SERVE]) as name:
        healthy = _healthy(engine, name)
        if not healthy:
            yield "its health check did not pass behind a proxy: " + _log(engine, name)
            return
        told = json.loads(engine.told("exec", name, "python", "-c", INSIDE))
        yield from _powers(told)
        version = told["version"]
        if (version["commit"], version["image_digest"]) != (commit, IMAGE_DIGEST):
            yield f"/version says {version['commit']} {version['image_digest']}"
        yield from json.loads(engine.told("exec", name, "python", "-c", BILL))
        engine.told("stop", "--time=90", name)
        code = engine.inspected(name)["State"]["ExitCode"]
        if code != 0:
            yield f"asked to end, it ended with {code}"


def _powers(told: dict[str, object]) -> Iterator[str]:
    expected = {
        "uids": ["10001"] * 4, "gids": ["10001"] * 4, "capabilities": "0" * 16, "new_privileges": "1", "ready": 200,
    }  # fmt: skip
    for name, value in expected.items():
        if told[name] != value:
            yield f"{name}: {told[name]} and not {value}"
    writes = told["writes"]
    if not isinstance(writes, dict) or not all(writes.values()):
        yield f"it can write outside /tmp: {writes}"


def _healthy(engine: Engine, name: str) -> bool:
    """Docker asks by itself; podman does where systemd has its timers, and is asked to here."""
    until = time.monotonic() + HEALTHY_SECONDS
    serves = False
    while time.monotonic() < until and engine.inspected(name)["State"]["Running"]:
        serves = serves or engine.run("exec", name, "python", "-c", SERVES).returncode == 0
        health = ""
        if serves and engine.is_podman:
            passed = [engine.run("healthcheck", "run", name).returncode == 0 for _ in range(3)]
            health = "healthy" if all(passed) else "unhealthy"
        elif serves:
            health = engine.inspected(name)["State"]["Health"]["Status"]
        if health in {"healthy", "unhealthy"}:
            return health == "healthy"
        time.sleep(1)
    return False


def _log(engine: Engine, name: str) -> str:
    done = engine.run("logs", name)
    return (done.stdout + done.stderr).strip()[-400:]


Check = Callable[[], Iterator[str]]
