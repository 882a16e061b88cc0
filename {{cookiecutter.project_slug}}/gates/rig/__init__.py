"""Real counterparts for tests: databases, a running service, a model provider on a socket."""
