"""A library desk: lends books."""

from app.features.library.agent import AGENT
from app.manifest import Feature

FEATURE = Feature(name="library", agent=AGENT)
