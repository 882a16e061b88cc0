"""Real counterparts for tests: databases, a running service, a model provider on a socket."""

import warnings

# The wheel with PostgreSQL asks for a folder for sockets when it is imported, and does not use it.
warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
