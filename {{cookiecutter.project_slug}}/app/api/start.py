"""`/`: where a person or a program that has nothing but the address goes on. It tells nothing about the service."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

router = APIRouter(include_in_schema=False)
PLACES = {"console": "/console", "openapi": "/openapi.json", "api": "/v1", "health": "/readyz"}


@router.head("/")
@router.get("/")
async def start(request: Request) -> Response:
    """A browser is sent to the console; anything else is told the addresses that lead on."""
    vary = {"Vary": "Accept"}
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/console", 303, vary)
    return JSONResponse(PLACES, headers=vary)
