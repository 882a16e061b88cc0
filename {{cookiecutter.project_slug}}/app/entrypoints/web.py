"""The web process: the API, the console, and on its own port what only operators may read. Gate: security."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import structlog
from fastapi import Depends, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from app.api import (
    approvals,
    audit,
    calls,
    chat,
    contract,
    elevations,
    embeddings,
    events,
    health,
    key_claims,
    keys,
    members,
    model_list,
    problems,
    responses,
    runs,
    start,
    switches,
    usage,
)
from app.api.body_gate import BodyGate, HeldBodies
from app.api.guards import require_known_query_where_public
from app.api.limit_storage import PER_PROCESS
from app.api.limits import RateLimits
from app.api.middleware import RequestEnvelope, security_headers
from app.bootstrap import open_runtime
from app.budgets.caps import Caps
from app.console import decision_pages, key_pages, pages
from app.draining import Drain
from app.entrypoints.release import Release, StoredRevisions
from app.features import FEATURES
from app.gateway.catalog import Catalog
from app.identity.roles import Roles
from app.runs.engine import running_worker
from app.runs.limits import RunLimits
from app.settings import Settings
from app.telemetry.metrics import HOUSEKEEPING, Without

log = structlog.get_logger(__name__)
ROUTERS = (
    start, health, chat, responses, embeddings, model_list, runs, events, calls, approvals, usage, keys, key_claims,
    members, elevations, audit, switches,
)  # fmt: skip


def create_app(settings: Settings) -> FastAPI:
    """The API and the console. The runtime opens with the server and closes with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(limits.close)
            runtime = await stack.enter_async_context(open_runtime(settings))
            app.state.runtime = runtime
            if settings.embedded_worker:
                await stack.enter_async_context(running_worker(settings, runtime.segments.advance, app.state.drain))
                tasks = await stack.enter_async_context(anyio.create_task_group())
                tasks.start_soon(runtime.housekeeping.forever)
                stack.callback(tasks.cancel_scope.cancel)
            yield

    service = settings.service
    app = FastAPI(
        title=service.name,
        description=service.description,
        version=service.version,
        lifespan=lifespan,
        dependencies=[Depends(require_known_query_where_public)],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # what a generated client calls it
    )
    limits = _limits(settings)
    app.state.limits = limits
    app.state.public_url = settings.public_url
    app.state.drain = Drain(settings.shutdown_grace)  # of the embedded worker
    app.state.draining = anyio.Event()  # set when the process is asked to end: streams say so and close
    problems.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    for feature in FEATURES:
        if feature.router is not None:
            app.include_router(feature.router)
    pages.install(app)
    app.include_router(key_pages.router)
    app.include_router(decision_pages.router)
    roles = Roles.load(settings.config_dir / "roles.toml")
    catalog = Catalog.load(settings.config_dir / "models.toml", settings.model_provider)
    known = {
        "features": [feature.name for feature in FEATURES],
        "models": catalog.model_names.offered,
        "embedding models": catalog.of_embeddings.model_names.offered,
        "roles": roles.names,
        "lendable roles": roles.lendable,
        "permissions": sorted(roles.all_permissions),
    }
    limits_of_a_run = RunLimits.of(settings, Caps.load(settings.config_dir / "budgets.toml").run_micro)
    version = contract.ContractFile.load(settings.config_dir / "contract.toml").version
    contract.install(app, known, limits_of_a_run, version)
    # Innermost first: an answer about a body has the headers that let a page of an allowed origin read it.
    bodies = HeldBodies(settings.request_bytes_in_flight, settings.request_max_bytes)
    app.add_middleware(BodyGate, max_bytes=settings.request_max_bytes, bodies=bodies)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Cache-Control",
                "Content-Type",
                "Idempotency-Key",
                "Last-Event-ID",
                "Prefer",
            ],
            expose_headers=["Location", "RateLimit", "Retry-After", "X-Request-ID"],
        )
    app.add_middleware(
        RequestEnvelope,
        limits=limits,
        headers=security_headers(https=settings.public_url.startswith("https://")),
    )
    if settings.otel_exporter_otlp_endpoint:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415 - as in telemetry/setup

        FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    return app


def _limits(settings: Settings) -> RateLimits:
    limits = RateLimits.load(settings)
    if not limits.are_shared and settings.environment in {"staging", "production"}:
        log.warning("limits.per_process", detail=PER_PROCESS, setting="RATE_LIMIT_STORAGE_URL")
    return limits


def create_operations_app(release: Release, stored: StoredRevisions, *, housekeeping: bool) -> FastAPI:
    """`/metrics` and `/version`, for the inside of the network.

    `stored` asks for the revisions of the database's schema. `housekeeping`: whether this process does it, and serves
    what only it knows."""
    served = Without(() if housekeeping else HOUSEKEEPING)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    problems.install(app)

    @app.api_route("/metrics", methods=["GET", "HEAD"])
    async def metrics() -> Response:
        return Response(generate_latest(served), media_type=CONTENT_TYPE_LATEST)

    @app.api_route("/version", methods=["GET", "HEAD"])
    async def version() -> JSONResponse:
        return JSONResponse(release.document(await stored()))

    return app
