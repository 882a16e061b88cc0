"""What a scorecard says of the configuration beside it: a setting that decides under which rule a control holds."""

from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.identity.four_eyes import DISTINCT_HOLDERS, DISTINCT_MEMBERS
from app.settings import ROOT, Settings


class _FourEyes(BaseSettings):
    """Read from .env itself: `Settings` is kept from it while proofs run."""

    model_config = SettingsConfigDict(extra="ignore")
    require_distinct_key_holders: bool = Settings.model_fields["require_distinct_key_holders"].default


def four_eyes_rule(env_file: Path = ROOT / ".env") -> str:
    """The rule by which approvals tell people apart, as REQUIRE_DISTINCT_KEY_HOLDERS is set here."""
    try:
        strict = _FourEyes(_env_file=env_file).require_distinct_key_holders
    except ValidationError:
        return "unknown: REQUIRE_DISTINCT_KEY_HOLDERS is neither true nor false"
    return DISTINCT_HOLDERS if strict else DISTINCT_MEMBERS
