"""`python -m app` is the same as `app`."""

from app.entrypoints.cli import main

main()
