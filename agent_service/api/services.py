"""What the routes work with, hung on the application when it starts (`app.Service`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from agent_service.agent.code_agent import CodeAgent
from agent_service.keys.directory import ProviderAccounts
from agent_service.ledger.ledger import Ledger
from agent_service.model_pool import ModelPool
from agent_service.principals import Principal


@dataclass(slots=True)
class Services:
    """The parts of a running service."""

    agent: CodeAgent
    models: ModelPool
    ledger: Ledger
    accounts: ProviderAccounts
    advice: tuple[str, ...] = ()
    """What the operator is told beside the problems there are."""


# Asynchronous although they wait for nothing: FastAPI hands plain functions to a thread, which costs more
# than the whole choice of a model.
async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


ServicesOf = Annotated[Services, Depends(_services)]
PrincipalOf = Annotated[Principal, Depends(_principal)]
