"""Rendering the template for tests, once per set of answers."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).resolve().parent.parent
SOURCE = TEMPLATE / "{{cookiecutter.project_slug}}"
NASTY = {
    "project_name": 'O\'Neil "Q" 🚀 & co',
    "description": 'Say "hi" \\ it\'s #1: ${HOME} %s <b> 🏳️‍🌈',
    "full_name": 'Zoë "Z" O\'Neil',
    "email": "zoe+x@example.com",
}
Bake = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _no_personal_defaults(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A developer's ~/.cookiecutterrc must not change what is tested."""
    config = tmp_path_factory.mktemp("config") / "config.yaml"
    config.write_text(f"cookiecutters_dir: {config.parent}\nreplay_dir: {config.parent}\n")
    monkey = pytest.MonkeyPatch()
    monkey.setenv("COOKIECUTTER_CONFIG", str(config))


@pytest.fixture(scope="session")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Render with these answers, through the real hooks; the same answers give the same folder."""
    made: dict[tuple[tuple[str, str], ...], Path] = {}

    def render(**answers: str) -> Path:
        key = tuple(sorted(answers.items()))
        if key not in made:
            output = tmp_path_factory.mktemp("baked")
            made[key] = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(output), extra_context=answers))
        return made[key]

    return render


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """A folder outside pytest's own: the service's tests run pytest too, which closes its folder to other users,

    and PostgreSQL, which refuses to run as root, then runs as another user and must reach its programs."""
    with tempfile.TemporaryDirectory(prefix="workshop-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def project(workshop: Path) -> Path:
    """A service generated with the nastiest answers; the first test that uses it sets it up."""
    return Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(workshop), extra_context=NASTY))
