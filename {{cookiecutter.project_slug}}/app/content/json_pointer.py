"""JSON Pointers (RFC 6901) to what is wrong, or worth a look, in what somebody sent."""

MAX_NAME = 60  # characters of a name that are repeated to whoever reads


def json_pointer(*parts: object) -> str:
    """The place inside a JSON document: names of members and indices of elements, from the outside inwards."""
    return "".join("/" + str(part)[:MAX_NAME].replace("~", "~0").replace("/", "~1") for part in parts)
