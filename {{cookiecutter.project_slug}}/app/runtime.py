"""The built parts of a process. Web, worker, command line and evaluations all work with this."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.budgets.ledger import Ledger
from app.budgets.spend import Spend
from app.db.engine import Database
from app.db.responsiveness import Responsiveness
from app.gateway.chat import Chat
from app.gateway.embeddings import Embeddings
from app.identity.directory import Directory
from app.identity.elevations import Elevations
from app.identity.key_claims import KeyClaims
from app.identity.keys import Keys
from app.identity.members import Members
from app.identity.sign_in import SignIn
from app.manifest import Feature
from app.policy.rules import Policy
from app.runs.approvals import Approvals
from app.runs.housekeeping import Housekeeping
from app.runs.intake import Intake
from app.runs.retention import Retention
from app.runs.segment import Segments
from app.runs.state import RunStore
from app.settings import Settings
from app.switches.board import Board
from app.tools.egress import Egress
from app.tools.guard import Guard
from app.tools.servers import ToolServers
from app.tools.unknown import UnknownCalls


@dataclass(frozen=True)
class Runtime:
    settings: Settings
    features: Mapping[str, Feature]
    db: Database
    directory: Directory
    members: Members
    keys: Keys
    key_claims: KeyClaims
    elevations: Elevations
    board: Board
    policy: Policy
    ledger: Ledger
    chat: Chat
    embeddings: Embeddings
    spend: Spend
    egress: Egress
    sign_in: SignIn | None  # at an OpenID Connect provider
    guard: Guard
    servers: ToolServers
    intake: Intake
    store: RunStore
    approvals: Approvals
    unknown: UnknownCalls
    segments: Segments
    retention: Retention
    housekeeping: Housekeeping
    responsiveness: Responsiveness
