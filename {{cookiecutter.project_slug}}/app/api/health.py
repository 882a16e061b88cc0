"""Liveness (a restart would not help) and readiness (it can do its work). Gate: observability."""

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.api.state import RuntimeDep

router = APIRouter(tags=["health"])
log = structlog.get_logger(__name__)


class Health(BaseModel):
    status: str


@router.head("/livez", include_in_schema=False)  # what some monitors and proxies ask with
@router.get("/livez", response_model=Health, responses={503: {"model": Health}})
async def livez(runtime: RuntimeDep) -> Response:
    """Alive unless this process itself is stuck: a restart would not help a broken database."""
    if await runtime.responsiveness.is_stuck():
        log.error("livez.stuck")
        return JSONResponse({"status": "stuck"}, 503)
    return JSONResponse({"status": "alive"})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=Health, responses={503: {"model": Health}})
async def readyz(runtime: RuntimeDep) -> Response:
    """Ready when the database answers by the ways that requests take."""
    try:
        await runtime.responsiveness.require_ready()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is not ready
        log.warning("readyz.failed", error=type(error.__cause__ or error).__name__)
        return JSONResponse({"status": "database unavailable"}, 503)
    return JSONResponse({"status": "ready"})
