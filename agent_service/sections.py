"""The sections of the configuration, each a frozen value with the checks that need nothing else."""

from __future__ import annotations

import ipaddress
import shlex
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from agent_service.agent.approvals import ApprovalRules
from agent_service.principals import AbsolutePath, ApiKey
from checkpoints.database import Synchronous


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address. Other names than `localhost` may lead anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_wildcard(host: str) -> bool:
    """Whether that address stands for all those of this machine, as 0.0.0.0 does."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _listed(value: Any) -> Any:
    """`a, b` as a list: how an environment variable writes one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Folders = Annotated[tuple[AbsolutePath, ...], BeforeValidator(_listed)]


class Section(BaseModel):
    """Part of the configuration; a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class ServerSettings(Section):
    """Where the service listens and whom it lets in."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0 = any free port."""
    allowed_hosts: Words = ()
    """`Host` names taken besides those of this machine's loopback and `host` itself."""
    allowed_origins: Words = ()
    """Web origins taken besides none at all, as in `https://agent.example`."""
    api_keys: tuple[ApiKey, ...] = ()
    """Empty = no key is needed; only on loopback."""
    max_body_bytes: int = Field(default=8 * 1024 * 1024, gt=0)
    max_in_flight: int = Field(default=128, gt=0)
    """Requests with a body worked on at once; those beyond are told to come back in a second."""
    requests_per_minute: int | None = Field(default=None, gt=0)
    """Rate limit of each principal; None = none."""

    @property
    def advice(self) -> str | None:
        """What is likely to be missing; None = nothing is."""
        if self.allowed_hosts or not is_wildcard(self.host):
            return None
        return (
            "server.allowed_hosts: is empty, so only requests to localhost are answered; list the names and "
            "addresses by which other machines reach this one, as in [agent.example, 192.0.2.7]"
        )

    @field_validator("host")
    @classmethod
    def _plain_host(cls, host: str) -> str:
        host = host.strip().removeprefix("[").removesuffix("]")
        if not host:
            raise ValueError("is empty; give an address such as 127.0.0.1")
        return host

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if "*" in name or "/" in name:
                raise ValueError(f"{name!r} is not a plain host name such as agent.example")
        return names

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, separator, rest = origin.partition("://")
            if not (scheme and separator and rest) or "/" in rest or "*" in rest:
                raise ValueError(f"{origin!r} is not an origin such as https://agent.example")
        return origins

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        names = [key.name for key in self.api_keys]
        digests = [key.sha256 for key in self.api_keys]
        if len(set(names)) < len(names) or len(set(digests)) < len(digests):
            raise ValueError("two api_keys have the same name or the same key")
        if not self.api_keys and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines, so keys are needed: "
                "add server.api_keys, or listen on 127.0.0.1"
            )
        return self


class StateSettings(Section):
    """Where threads, questions and checkpoints are kept."""

    url: SecretStr | None = None
    """As in `postgresql://user@host/name`, for several services at once; None = SQLite in the data folder."""
    synchronous: Synchronous = "FULL"
    """Of SQLite: `NORMAL` is quicker, and a power cut may take the last answers with it."""
    data_dir: AbsolutePath | None = None
    """None = `$XDG_DATA_HOME/agent-service`; `load_settings` always fills it in."""
    keep_checkpoints: int | None = Field(default=None, ge=1)
    """So many of the newest checkpoints of a thread stay, soon after a run ended; None = all."""
    keep_events_days: int | None = Field(default=30, ge=1)
    """Events older than so many days go; None = none does."""
    keep_usage_days: int | None = Field(default=400, ge=1)
    """The same for what calls of models cost."""

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, separator, rest = url.get_secret_value().partition("://")
        if not separator or scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
            raise ValueError(
                "is not of the form postgresql://user:password@host/name; "
                "leave it out for SQLite in the data folder"
            )
        return SecretStr(f"postgresql+psycopg://{rest}")


class AgentSettings(Section):
    """What a run may do, and how much of it."""

    allowed_roots: Folders = ()
    """Folders that projects must be in; empty = see `Settings.effective_roots`."""
    max_steps: int = Field(default=50, gt=0)
    """Model calls in a run."""
    max_run_seconds: float = Field(default=1800, gt=0)
    max_tool_calls_per_turn: int = Field(default=64, gt=0)
    max_run_tokens: int | None = Field(default=None, gt=0)
    max_run_cost_usd: float | None = Field(default=None, gt=0)
    """For one instruction, at list prices; models of unknown price count as the usual ones do."""
    approvals: ApprovalRules = Field(default_factory=dict)
    """Tool name -> whether a human is asked first, for all its calls or by path; `*` stands for every tool
    that is not named. Calls without a rule go as their tool's effect suggests."""
    tools: Words = ()
    """The operator's own tools, as `module:attribute`."""
    question_expiry_seconds: float | None = Field(default=None, gt=0)
    """After so long a question is withdrawn unanswered, never taken for a yes; None = it waits for ever."""

    @field_validator("tools")
    @classmethod
    def _references(cls, tools: tuple[str, ...]) -> tuple[str, ...]:
        for each in tools:
            module, _, attribute = each.partition(":")
            if not all(part.isidentifier() for part in (*module.split("."), attribute)):
                raise ValueError(f"{each!r} is not of the form package.module:attribute")
        return tools


class NotifySettings(Section):
    """Who is told that a question is open."""

    url: str | None = Field(default=None, pattern=r"^https?://")
    command: tuple[str, ...] | None = None
    """A program and its arguments; one line of text is split as a shell would."""

    @field_validator("command", mode="before")
    @classmethod
    def _split(cls, command: Any) -> Any:
        return shlex.split(command) or None if isinstance(command, str) else command


class BudgetSettings(Section):
    """What models may cost, in US dollars at list prices; None = any amount. Days are those of UTC."""

    per_day_usd: float | None = Field(default=None, ge=0)
    """All calls of a day together."""
    per_principal_day_usd: float | None = Field(default=None, ge=0)
    """Each principal's calls of a day."""
    per_thread_usd: float | None = Field(default=None, ge=0)
    """All calls of a thread, whenever they are."""


class CacheSettings(Section):
    """Whether answers to requests with temperature 0, without tools and not streamed, are given again."""

    enabled: bool = False
    ttl_seconds: float = Field(default=3600, gt=0)
    """How old they may be."""
