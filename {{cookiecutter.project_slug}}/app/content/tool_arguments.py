"""What a model means by no arguments, in whatever way it says so."""

NO_ARGUMENTS = "{}"


def says_nothing(arguments: object) -> bool:
    """Whether these are no arguments: left out, empty, or the JSON value null."""
    return arguments is None or (isinstance(arguments, str) and arguments.strip() in {"", "null"})
