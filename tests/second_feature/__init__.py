"""A second feature as a team would write it by the generated README; used by tests/test_service.py."""
