"""The one place that constructs things: from settings to a running application."""

from __future__ import annotations

import importlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import gettempdir

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from agent_service import __version__
from agent_service.agent.approvals import ApprovalPolicy, doubts
from agent_service.agent.code_agent import Caller, CodeAgent
from agent_service.agent.feed import EventFeed
from agent_service.agent.limits import RunLimits
from agent_service.agent.parts import AgentParts
from agent_service.agent.retention import Retention
from agent_service.agent.supervisor import RunSupervisor
from agent_service.agent.workspace_watch import WorkspaceWatch
from agent_service.api import agents, chat, docs_page, providers, route, service, timeline, usage
from agent_service.api.edge import EdgeConfig, protect
from agent_service.api.errors import install_error_handlers
from agent_service.api.openapi import describe
from agent_service.api.services import Services
from agent_service.api.shortcut import Shortcut
from agent_service.chores import repeating
from agent_service.config_file import ConfigError
from agent_service.data_dir import prepare_data_dir
from agent_service.keys.directory import LOOK_SECONDS, ProviderAccounts, begin
from agent_service.keys.master import MasterKeySource
from agent_service.keys.vault import AccountVault
from agent_service.ledger.ledger import open_ledger
from agent_service.ledger.lessons import Remembering
from agent_service.ledger.standings import StandingKeeper
from agent_service.local_model import embedded_provider
from agent_service.model_pool import ModelPool, make_provider
from agent_service.notify import Notifier
from agent_service.reload import Reload
from agent_service.settings import (
    Settings,
    default_config_file,
    home_folder,
    load_settings,
)
from checkpoints.accounts import AccountStore
from checkpoints.opening import open_database
from checkpoints.stores import Stores
from routing.candidate import Candidate
from tools.filesystem import edit_file, list_files, read_file, write_file
from tools.human import ask_human_for_input
from tools.project import resolve_project
from tools.tool import Tool, ToolRegistry

logger = logging.getLogger(__name__)

BUILT_IN_TOOLS = (read_file, write_file, edit_file, list_files, ask_human_for_input)
CHAT_PATHS = ("/v1/chat/completions", "/chat/completions")
TOOL_ENTRY_POINTS = "agent_service.tools"
"""The group under which installed packages offer tools of their own."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What the process was started with, so that settings can be read again when the file changes."""

    environ: Mapping[str, str]
    config: Path | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    cwd: Path = field(default_factory=Path.cwd)
    secrets: set[str] = field(default_factory=set, repr=False, compare=False)
    """The keys of all accounts are added here as they are met, for whoever keeps secrets out of a log."""
    needs_keys: bool = True
    """False = no model will be asked: configured providers may lack their keys, and runs are left alone."""

    def settings(self) -> Settings:
        """The settings as they are now. Raises ConfigError."""
        return load_settings(self.config, self.overrides, self.environ)

    @property
    def config_file(self) -> Path:
        return self.config or default_config_file(self.environ)


class Service:
    """The application and what it is made of."""

    def __init__(self, launch: Launch, settings: Settings | None = None) -> None:
        """Raises ConfigError."""
        self.launch = launch
        self.settings = settings or launch.settings()
        self.tools = load_tools(self.settings.agent.tools)
        self._agent: CodeAgent | None = None
        self._models: ModelPool | None = None
        self.asgi = self._application()

    def drain(self) -> None:
        """Begin to shut down: runs leave off after the step in flight, streams end."""
        if self._agent is not None:
            self._agent.drain()

    async def candidates(self) -> tuple[Candidate, ...]:
        """Every model of every provider, once it has begun to serve. Raises NoProviderConfigured."""
        if self._models is None:
            return ()
        await self._models.require_any()
        return await self._models.router.pool.candidates()

    def _application(self) -> ASGIApp:
        app = FastAPI(
            title="agent-service",
            version=__version__,
            summary="A self-hosted coding agent with a human in the loop",
            lifespan=self._lifespan,
            docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
            redoc_url=None,
        )
        describe(app)
        install_error_handlers(app)
        app.include_router(service.root)
        app.include_router(docs_page.router)
        for part in (agents, timeline, chat, route, usage, service):
            add_with_alias(app, part.router)
        app.include_router(providers.router, prefix="/api")
        hottest = Shortcut(app, CHAT_PATHS, chat.chat_completions)
        return protect(hottest, EdgeConfig.from_settings(self.settings.server))

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.services = await self._open(stack)
            self._agent, self._models = app.state.services.agent, app.state.services.models
            yield

    async def _open(self, stack: AsyncExitStack) -> Services:
        settings, launch = self.settings, self.launch
        data_dir = prepare_data_dir(settings.data_dir)
        database = await stack.enter_async_context(
            open_database(settings.database, synchronous=settings.state.synchronous)
        )
        ledger = await stack.enter_async_context(open_ledger(database, settings))
        vault = AccountVault(AccountStore(database), MasterKeySource(data_dir, launch.environ))
        begun = await begin(vault, settings, launch.environ, launch.secrets, needs_keys=launch.needs_keys)
        models = await stack.enter_async_context(
            ModelPool(
                begun.joined.config,
                restricted=begun.joined.restricted,
                own_port=settings.server.port,
                ollama_host=launch.environ.get("OLLAMA_HOST"),
                embedded=lambda: embedded_provider(data_dir, launch.environ, make_provider),
                meter=ledger.meter,
            )
        )
        memory = await stack.enter_async_context(Remembering(models.router, ledger.lessons))
        await stack.enter_async_context(
            StandingKeeper(models.router.pool, models.health, ledger.standings, ledger.budgets)
        )
        for doubt in doubts(settings.agent.approvals, self.tools):
            logger.warning("agent.approvals.%s", doubt)
            models.report(f"approvals: {doubt}", f"agent.approvals.{doubt}")
        accounts = ProviderAccounts(
            vault, models, settings, launch.environ, launch.secrets, begun, ledger.budgets
        )
        stores = Stores.on(database)
        feed = await stack.enter_async_context(EventFeed(stores.log))
        notifier = await stack.enter_async_context(Notifier(settings.notify, launch.environ))
        stores.log.listen(notifier.notify)
        watch = await stack.enter_async_context(WorkspaceWatch())
        parts = AgentParts(
            router=lambda: models.router,
            find_models=models.require_any,
            tools=self.tools,
            approvals=ApprovalPolicy(settings.agent.approvals),
            limits=_limits(settings),
            wrote=watch.wrote,
            outcomes=memory,
            stream=feed.publish,
        )
        retention = Retention(settings.state.keep_checkpoints, settings.state.keep_events_days)
        supervisor = await stack.enter_async_context(
            RunSupervisor(parts, stores, retention, takes_up=launch.needs_keys)
        )
        reload = Reload(launch.settings, settings, models, accounts, ledger)
        follow = partial(reload.follow, launch.config_file)
        await stack.enter_async_context(repeating(follow, LOOK_SECONDS))
        await stack.enter_async_context(repeating(accounts.look, LOOK_SECONDS, after=LOOK_SECONDS))
        agent = CodeAgent(supervisor, stores, feed, watch, self._open_project)
        advice = settings.server.advice
        if advice is not None:
            logger.warning("%s", advice)
        return Services(agent, models, ledger, accounts, (advice,) if advice else ())

    def _open_project(self, caller: Caller, path: str) -> Path:
        home = home_folder(self.launch.environ)
        usual = self.settings.effective_roots(self.launch.cwd, home, Path(gettempdir()))
        roots = caller.allowed_roots or usual
        return resolve_project(path, roots, home=home, data_dir=self.settings.data_dir)


def create_app() -> ASGIApp:
    """The application with the settings of this process's environment, for any ASGI server."""
    import os

    return Service(Launch(dict(os.environ))).asgi


def add_with_alias(app: FastAPI, routes: APIRouter) -> None:
    """The routes under `/v1`, and once more without the prefix."""
    app.include_router(routes, prefix="/v1")
    app.include_router(routes, include_in_schema=False)


def load_tools(references: Sequence[str]) -> ToolRegistry:
    """The built-in tools, those of installed packages, and those the configuration names.

    Raises ConfigError when one cannot be had.
    """
    tools = list(BUILT_IN_TOOLS)
    for point in entry_points(group=TOOL_ENTRY_POINTS):
        tools.append(_as_tool(f"entry point {point.name}", point.load))
    for reference in references:
        tools.append(_as_tool(f"agent.tools: {reference}", partial(_named, reference)))
    try:
        return ToolRegistry(tools)
    except ValueError as error:
        raise ConfigError(f"agent.tools: {error}") from None


def _named(reference: str) -> object:
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _as_tool(where: str, load: Callable[[], object]) -> Tool:
    try:
        found = load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{where}: {error}; the module must be installed, or its folder named in PYTHONPATH"
        ) from None
    if not isinstance(found, Tool):
        raise ConfigError(f"{where}: it is not a tool; decorate the function with @tool")
    return found


def _limits(settings: Settings) -> RunLimits:
    agent = settings.agent
    return RunLimits(
        max_steps=agent.max_steps,
        max_run_seconds=agent.max_run_seconds,
        max_tool_calls_per_turn=agent.max_tool_calls_per_turn,
        max_run_tokens=agent.max_run_tokens,
        max_run_cost_usd=agent.max_run_cost_usd,
        question_expiry_seconds=agent.question_expiry_seconds,
    )
