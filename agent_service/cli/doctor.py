"""`agent-service doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from agent_service.agent.approvals import doubts
from agent_service.app import load_tools
from agent_service.cli.connection import answers_as_agent_service, default_url, open_service
from agent_service.cli.conversation import write_json
from agent_service.cli.fault import COMPLETED, FAILED, Fault
from agent_service.cli.http_server import bind
from agent_service.cli.local import ENGINE_MISSING, models_folder
from agent_service.cli.start import Start, read_start
from agent_service.cli.terminal import Terminal
from agent_service.cli.wording import command_name, laid_out
from agent_service.config_file import ConfigError
from agent_service.data_dir import prepare_data_dir
from agent_service.keys.joining import Joined, join
from agent_service.keys.reading import joined_accounts
from agent_service.local_model.engine import available_memory, engine_available
from agent_service.local_model.weights import CODER_1_5B, installed
from agent_service.model_pool import HOW_TO_BEGIN, make_provider
from agent_service.provider_settings import key_variables
from agent_service.settings import default_config_file
from checkpoints.errors import DatabaseUnusable
from checkpoints.opening import open_database
from routing.config import DEFAULT_ACCOUNT, ProviderSpec
from routing.detect import detect_local
from routing.errors import ProviderError
from routing.transport import open_client
from tools.descriptors import has_openat2

LISTING_SECONDS = 5.0
"""How long a provider may take to list its models."""

_MARKS = {"ok": ("✓ ", "green"), "hint": ("· ", "yellow"), "broken": ("✗ ", "red")}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "hint", "broken"]
    """`hint`: something to know, but not needed."""
    detail: str
    advice: str = ""


def doctor(config: Path | None, overrides: Mapping[str, object], *, as_json: bool) -> int:
    """Look at everything and print it; the exit code is 1 if something needed is broken."""
    terminal = Terminal(to_stderr=as_json)
    checks = asyncio.run(_examine(config, overrides, terminal))
    healthy = all(check.state != "broken" for check in checks)
    if as_json:
        write_json({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        terminal.gap()
        terminal.line(
            "Everything needed works." if healthy else "Something needed does not work; see ✗ above."
        )
    return COMPLETED if healthy else FAILED


async def _examine(config: Path | None, overrides: Mapping[str, object], terminal: Terminal) -> list[Check]:
    checks = []
    async for check in _checks(config, overrides):
        checks.append(check)
        first, *further = check.detail.splitlines() or [""]
        terminal.line(_MARKS[check.state], (f"{check.name:<14}", "bold"), f" {first}")
        for line in further:
            terminal.line(" " * 17, line.strip())
        for line in laid_out(check.advice):
            terminal.line(" " * 17, (line, "dim"))
    return checks


async def _checks(config: Path | None, overrides: Mapping[str, object]) -> AsyncIterator[Check]:
    yield _python()
    try:
        start = read_start(config, overrides)
        joined = join(start.settings, start.environ, [], needs_keys=False)
    except ConfigError as error:
        yield Check("configuration", "broken", str(error), "Mend it; nothing else can be looked at before.")
        return
    yield _configuration(start)
    yield _data_dir(start)
    yield await _database(start)
    with suppress(DatabaseUnusable):  # as was said just now
        try:
            joined = await joined_accounts(start.settings, start.environ)
        except ConfigError as error:
            yield Check("accounts", "broken", str(error), "The service does not start before.")
        for problem in joined.problems:
            yield Check("accounts", "hint", problem)
    providers = joined.config.providers
    yield _file_access()
    yield _tools(start)
    usable = 0
    served = bool(joined.keyless) and answers_as_agent_service(default_url(start))
    for name, told in joined.keyless.items():
        yield _keyless(name, told, served=served)
    for check in await asyncio.gather(*(_provider(spec, start, joined) for spec in providers)):
        usable += check.state == "ok"
        yield check
    alone = not providers and not joined.keyless
    for check in await _local_servers(start, used=alone):
        usable += check.state == "ok" and alone
        yield check
    embedded = _embedded(start, used=alone)
    usable += embedded.state == "ok" and alone
    yield embedded
    if not usable and not joined.keyless:
        yield Check("models", "broken", "no model can be used", "" if providers else HOW_TO_BEGIN)
    for check in _service(start):
        yield check


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _configuration(start: Start) -> Check:
    file = start.config or default_config_file(start.environ)
    return Check("configuration", "ok", str(file) if file.exists() else f"defaults ({file} does not exist)")


def _data_dir(start: Start) -> Check:
    folder = start.settings.data_dir
    try:
        prepare_data_dir(folder)
        with tempfile.TemporaryFile(dir=folder):
            return Check("data folder", "ok", str(folder))
    except (ConfigError, OSError) as error:
        advice = "Choose another folder with --data-dir, or mend this one."
        return Check("data folder", "broken", str(error), advice)


def _tools(start: Start) -> Check:
    """The tools of the operator's own, really imported."""
    own = start.settings.agent.tools
    try:
        tools = load_tools(own)
    except ConfigError as error:
        return Check("tools", "broken", str(error), "Mend it, or take it out of agent.tools.")
    except Exception as error:  # noqa: BLE001 - importing runs code of the operator's, which may do anything
        told = f"{', '.join(own)}: {type(error).__name__}: {error}"
        return Check("tools", "broken", told, "Mend it, or take it out of agent.tools.")
    if wrong := [*doubts(start.settings.agent.approvals, tools)]:
        told = "; ".join(f"agent.approvals.{each}" for each in wrong)
        return Check("tools", "broken", told, "Such a rule protects nothing: mend it, or take it out.")
    return Check("tools", "ok", f"{len([*tools])} can be used")


async def _database(start: Start) -> Check:
    where = start.settings.database
    if isinstance(where, Path) and not where.exists():
        return Check("database", "ok", f"{where} (made at the first start)")
    try:
        async with open_database(where) as database:
            size = f" ({where.stat().st_size / 1e6:.1f} MB)" if isinstance(where, Path) else ""
            return Check("database", "ok", f"{database.where}{size}")
    except DatabaseUnusable as error:
        return Check("database", "broken", str(error))


def _file_access() -> Check:
    if has_openat2():
        return Check("file access", "ok", "openat2")
    return Check(
        "file access", "hint", "without openat2: as safe, somewhat slower", "Linux 5.6 and later have it."
    )


async def _provider(spec: ProviderSpec, start: Start, joined: Joined) -> Check:
    name = spec.name if spec.account == DEFAULT_ACCOUNT else f"{spec.name}/{spec.account}"
    key = "key set" if spec.api_key else "no key"
    provider = make_provider(spec, public_only=spec.account_id in joined.restricted)
    try:
        async with asyncio.timeout(LISTING_SECONDS):
            listed = await provider.list_models()
        return Check(name, "ok", f"{key}, {_models(len(listed))} at {spec.base_url}")
    except ProviderError as error:
        return Check(name, "hint", f"{key}, {error}", f"Look at {_where_set(spec, start, joined)}.")
    except TimeoutError:
        return Check(name, "hint", f"{key}, no answer within {LISTING_SECONDS:.0f} s from {spec.base_url}")
    finally:
        with suppress(ProviderError):
            await provider.aclose()


def _keyless(name: str, told: str, *, served: bool) -> Check:
    """A configured provider whose key is not here; `served`: a service runs, which may have it."""
    if served:
        return Check(name, "hint", told, "The service that runs may have it; then nothing is wrong.")
    return Check(name, "broken", told, "The service does not start from here before.")


def _where_set(spec: ProviderSpec, start: Start, joined: Joined) -> str:
    """Where the provider's key and address come from."""
    if spec.account_id in joined.stored:
        return f"the stored account: {command_name()} providers show {spec.name}"
    entry = start.settings.providers.get(spec.name)
    variable = key_variables(spec.name, start.environ).get(spec.account)
    if entry is not None and spec.account in entry.accounts:
        return f"its key under `providers.{spec.name}.accounts.{spec.account}`"
    if variable is None or (entry is not None and entry.api_key is not None):
        return f"its key and address under `providers.{spec.name}`"
    return f"the environment variable {variable}, which its key comes from"


async def _local_servers(start: Start, *, used: bool) -> list[Check]:
    async with open_client() as client:
        found = await detect_local(
            client,
            own_port=start.settings.server.port,
            environ_ollama_host=start.environ.get("OLLAMA_HOST"),
        )
    note = "" if used else "; not used, because providers are configured"
    return [
        Check(spec.name, "ok", f"{_models(len(spec.models))} on this machine at {spec.base_url}{note}")
        for spec in found
    ]


def _models(count: int) -> str:
    return f"{count} model{'s' * (count != 1)}"


def _embedded(start: Start, *, used: bool) -> Check:
    name, weights = "embedded model", CODER_1_5B
    if not installed(weights, models_folder(start)):
        return Check(
            name, "hint", "not installed", f"{command_name()} local install (1.1 GB)" if used else ""
        )
    if not engine_available():
        return Check(name, "hint", ENGINE_MISSING)
    free = available_memory()
    if free is not None and free < weights.memory:
        return Check(
            name, "hint", f"needs {weights.memory / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free"
        )
    return Check(name, "ok", f"{weights.name} is installed")


def _service(start: Start) -> list[Check]:
    """The service that runs, and what is wrong with it; else whether one could."""
    url, server = default_url(start), start.settings.server
    if answers_as_agent_service(url):
        running = Check("address", "ok", f"{url}: agent-service is running there")
        return [running, *(Check("service", "hint", problem) for problem in _problems(start, url))]
    try:
        bind(server.host, server.port).close()
    except Fault as fault:
        advice = (
            f"Take another one: {command_name()} serve --port {server.port + 1 if server.port < 65535 else 0}"
        )
        return [Check("address", "broken", str(fault), advice)]
    return [Check("address", "ok", f"{url} is free")]


def _problems(start: Start, url: str) -> list[str]:
    with open_service(start, url) as client:
        try:
            return [str(problem) for problem in client.health()["problems"]]
        except Fault as fault:
            return [str(fault)]
