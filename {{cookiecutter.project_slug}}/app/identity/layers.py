"""The two layers that own a setting: the platform's operator and the tenant. docs/ownership.md lists the settings.

The tenant writes its own layer only, and the stricter of both holds. Gate: access, cost.
"""

from typing import Literal

Layer = Literal["operator", "tenant"]
PEOPLE = {"operator": "the platform's operators", "tenant": "the tenant's administrators"}  # who writes a layer
