"""`agent-service doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from agent_service.cli.connection import answers_as_agent_service, default_url
from agent_service.cli.conversation import write_json
from agent_service.cli.fault import COMPLETED, FAILED, Fault
from agent_service.cli.http_server import bind
from agent_service.cli.local import ENGINE_MISSING, models_folder
from agent_service.cli.start import Start, read_start
from agent_service.cli.terminal import Terminal
from agent_service.config_file import ConfigError
from agent_service.data_dir import STATE_FILE, prepare_data_dir
from agent_service.local_model.engine import available_memory, engine_available
from agent_service.local_model.weights import CODER_1_5B, installed
from agent_service.model_pool import HOW_TO_BEGIN, make_provider
from agent_service.settings import default_config_file
from checkpoints.database import Database
from checkpoints.errors import DatabaseUnusable
from routing.config import ProviderSpec
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
        terminal.line(_MARKS[check.state], (f"{check.name:<14}", "bold"), f" {check.detail}")
        if check.advice:
            terminal.line(" " * 17, (check.advice, "dim"))
    return checks


async def _checks(config: Path | None, overrides: Mapping[str, object]) -> AsyncIterator[Check]:
    yield _python()
    try:
        start = read_start(config, overrides)
        providers = start.routing.providers
    except ConfigError as error:
        yield Check("configuration", "broken", str(error), "Mend it; nothing else can be looked at before.")
        return
    yield _configuration(start)
    yield _data_dir(start)
    yield await _database(start)
    yield _file_access()
    usable = 0
    for check in await asyncio.gather(*map(_provider, providers)):
        usable += check.state == "ok"
        yield check
    for check in await _local_servers(start, used=not providers):
        usable += check.state == "ok" and not providers
        yield check
    embedded = _embedded(start, used=not providers)
    usable += embedded.state == "ok" and not providers
    yield embedded
    if not usable:
        yield Check("models", "broken", "no model can be used", "" if providers else HOW_TO_BEGIN)
    yield _port(start)


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _configuration(start: Start) -> Check:
    file = start.config or default_config_file(start.environ)
    return Check("configuration", "ok", str(file) if file.exists() else f"defaults ({file} does not exist)")


def _data_dir(start: Start) -> Check:
    folder = start.settings.data_dir
    try:
        if folder.exists():
            prepare_data_dir(folder)
            return Check("data folder", "ok", str(folder))
        parent = next(each for each in folder.parents if each.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigError(f"{folder}: cannot be made, because {parent} is not writable; see --data-dir")
        return Check("data folder", "ok", f"{folder} (made at the first start)")
    except ConfigError as error:
        return Check("data folder", "broken", str(error))


async def _database(start: Start) -> Check:
    file = start.settings.data_dir / STATE_FILE
    if not file.exists():
        return Check("database", "ok", f"{file} (made at the first start)")
    try:
        async with Database.open(file):
            return Check("database", "ok", f"{file} ({file.stat().st_size / 1e6:.1f} MB)")
    except DatabaseUnusable as error:
        return Check("database", "broken", str(error))


def _file_access() -> Check:
    if has_openat2():
        return Check("file access", "ok", "openat2")
    return Check(
        "file access", "hint", "without openat2: as safe, somewhat slower", "Linux 5.6 and later have it."
    )


async def _provider(spec: ProviderSpec) -> Check:
    name = f"{spec.name}"
    key = "key set" if spec.api_key else "no key"
    provider = make_provider(spec)
    try:
        async with asyncio.timeout(LISTING_SECONDS):
            listed = await provider.list_models()
        return Check(name, "ok", f"{key}, {len(listed)} models at {spec.base_url}")
    except ProviderError as error:
        return Check(name, "hint", f"{key}, {error}", "Look at its key and address under `providers`.")
    except TimeoutError:
        return Check(name, "hint", f"{key}, no answer within {LISTING_SECONDS:.0f} s from {spec.base_url}")
    finally:
        with suppress(ProviderError):
            await provider.aclose()


async def _local_servers(start: Start, *, used: bool) -> list[Check]:
    async with open_client() as client:
        found = await detect_local(
            client,
            own_port=start.settings.server.port,
            environ_ollama_host=start.environ.get("OLLAMA_HOST"),
        )
    note = "" if used else "; not used, because providers are configured"
    return [
        Check(spec.name, "ok", f"{len(spec.models)} models on this machine at {spec.base_url}{note}")
        for spec in found
    ]


def _embedded(start: Start, *, used: bool) -> Check:
    name, weights = "embedded model", CODER_1_5B
    if not installed(weights, models_folder(start)):
        return Check(name, "hint", "not installed", "agent-service local install (1.1 GB)" if used else "")
    if not engine_available():
        return Check(name, "hint", ENGINE_MISSING)
    free = available_memory()
    if free is not None and free < weights.memory:
        return Check(
            name, "hint", f"needs {weights.memory / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free"
        )
    return Check(name, "ok", f"{weights.name} is installed")


def _port(start: Start) -> Check:
    url, server = default_url(start), start.settings.server
    if answers_as_agent_service(url):
        return Check("address", "ok", f"{url}: agent-service is running there")
    try:
        bind(server.host, server.port).close()
    except Fault as fault:
        return Check("address", "hint", str(fault))
    return Check("address", "ok", f"{url} is free")
