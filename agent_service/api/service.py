"""The routes about the service itself: what it is, how it is, which models it has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request

from agent_service import __version__
from agent_service.api.documentation import OPEN, described, errors
from agent_service.api.error_codes import ErrorCode
from agent_service.api.schemas import About, Health
from agent_service.api.services import ServicesOf

root = APIRouter()
router = APIRouter()


@root.get("/", summary="About", responses=described(*OPEN, ErrorCode.HOST_NOT_ALLOWED))
async def about() -> About:
    """Name, version and where to go from here."""
    links = {"docs": "/docs", "openapi": "/openapi.json", "health": "/health", "models": "/v1/models"}
    return About(name="agent-service", version=__version__, links=links)


@root.get("/health", summary="Health", responses=described(*OPEN))
async def health(request: Request, services: ServicesOf) -> Health:
    """Whether work can be done. Details only for callers with a key, where keys are in use."""
    await services.models.look()
    providers = services.models.reachable()
    problems = services.models.problems()
    if trouble := await services.agent.trouble():
        problems = [trouble, *problems]
    return Health(
        status="degraded" if problems or not any(providers.values()) else "ok",
        providers=providers if request.state.principal else {},
        timestamp=datetime.now(UTC),
        problems=[*problems, *services.advice] if request.state.principal else [],
    )


@router.get(
    "/models",
    summary="List models (OpenAI's protocol)",
    response_description="OpenAI's list of models.",
    responses=errors(),
)
async def list_models(services: ServicesOf) -> dict[str, Any]:
    """Every model as `provider/model`, then the aliases."""
    await services.models.look()
    names = await services.models.names()
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name, owner in names],
    }
