"""How the offline model fills a schema."""

from app.gateway.offline_values import Facts, fill


def test_required_values_are_found_or_made_minimal() -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "count": {"type": "integer", "minimum": 2},
            "mood": {"enum": ["calm", "angry"]},
            "note": {"type": "string"},
            "inner": {"$ref": "#/$defs/Inner"},
        },
        "required": ["title", "count", "mood", "inner"],
        "$defs": {"Inner": {"type": "object", "properties": {"flag": {"type": "boolean"}}, "required": ["flag"]}},
    }
    noted = Facts("Add a remark: buy milk", (), ())
    remark = {"type": "object", "properties": {"remark": {"type": "string"}}, "required": ["remark"]}
    assert fill(remark, noted) == {"remark": "buy milk"}
    facts = Facts("They are angry about invoices.", (), ())
    assert fill(schema, facts) == {
        "title": "They are angry about invoices",
        "count": 2,
        "mood": "angry",
        "inner": {"flag": False},
    }
