"""The product's capabilities, one folder each. To add yours: copy `assistant/`, then add a line here."""

from app.features.assistant import FEATURE as ASSISTANT
from app.manifest import Feature

FEATURES: tuple[Feature, ...] = (ASSISTANT,)
