"""A developer's own settings must not reach a test or a proof: neither from the environment nor from .env."""

import os

from app.settings import Settings


def isolate() -> None:
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)
    # A process started a hundred times must not compile the service each time, whatever the machine is set to.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["ENV_FILE"] = ""
    Settings.model_config["env_file"] = None
