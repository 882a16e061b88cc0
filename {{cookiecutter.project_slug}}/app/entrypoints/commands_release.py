"""What a release consists of: its version and its bill of materials."""

import json

import sqlalchemy as sa

from app.db.connections import StorageUnavailable, sync_engine
from app.entrypoints.bill_of_materials import BillOfMaterials
from app.entrypoints.command_context import Json
from app.entrypoints.release import Release, stored_revisions
from app.entrypoints.terminal import out, show
from app.features import FEATURES
from app.settings import Settings, load_settings


def version(as_json: Json = False) -> None:
    """Commit, image, and hashes of policy, prompts, models, prices and schema, as /version tells them."""
    settings = load_settings()
    document = Release.read(settings).document(_stored(settings))
    if as_json:
        print(json.dumps(document))
        return
    schema = document.pop("schema")
    prompts = document.pop("prompts")
    lines = {**document, **{f"prompt of {name}": value for name, value in prompts.items()}}
    lines["schema of the code"], lines["of the database"] = schema["code"], schema["database"]
    for name, value in lines.items():
        told = ", ".join(value) if isinstance(value, list) else value
        out.print(f"{name.replace('_', ' '):<20} {told or 'unknown'}", markup=False, highlight=False)


def bill(as_json: Json = False) -> None:
    """The AI bill of materials: models with their retirement dates, prompts, tools, policies."""
    settings = load_settings()
    read = BillOfMaterials.read(settings.service, settings.config_dir, FEATURES)
    if as_json:
        print(json.dumps(read.document(), indent=2))
    else:
        show(read.rows(), as_json=False, empty="")


def _stored(settings: Settings) -> list[str] | None:
    """The revisions that the database is at; None where there is none yet, or it does not answer."""
    if settings.is_sqlite and not settings.sqlite_file.exists():
        return None  # and none is made by asking
    try:
        engine = sync_engine(settings.database_url)
        try:
            with engine.connect() as connection:
                return stored_revisions(connection)
        finally:
            engine.dispose()
    except (StorageUnavailable, sa.exc.OperationalError):
        return None
