"""Everything the operator decides, as one frozen value; and the one reader of the environment.

Sources, the earlier winning: command line, `AGENT_SERVICE_*` variables (`__` nests), the YAML file,
defaults. Mappings are merged key by key, lists are replaced as a whole.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from agent_service.agent.approvals import ApprovalRules
from agent_service.config_file import ConfigError, read_config_file
from agent_service.data_dir import STATE_FILE
from agent_service.layers import Layers
from agent_service.principals import LOCAL, AbsolutePath, ApiKey, Principal
from agent_service.provider_settings import ProviderSettings, configured_specs, specs_from_environment
from checkpoints.database import Synchronous
from routing.config import ChainLink, FallbackConfig, ModelGroup, RouterConfig, RoutingConfig
from tools.project import is_system_folder

__all__ = ["LOCAL", "ConfigError", "Principal", "Settings", "load_settings", "routing_config"]

_WIDE_FOLDERS = frozenset(map(Path, ("/home", "/media", "/mnt", "/opt", "/srv", "/Users")))
"""Of no system, but not one person's either."""


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


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class ServerSettings(_Section):
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


class StateSettings(_Section):
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


class AgentSettings(_Section):
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


class NotifySettings(_Section):
    """Who is told that a question is open."""

    url: str | None = Field(default=None, pattern=r"^https?://")
    command: tuple[str, ...] | None = None
    """A program and its arguments; one line of text is split as a shell would."""

    @field_validator("command", mode="before")
    @classmethod
    def _split(cls, command: Any) -> Any:
        return shlex.split(command) or None if isinstance(command, str) else command


class BudgetSettings(_Section):
    """What models may cost, in US dollars at list prices; None = any amount. Days are those of UTC."""

    per_day_usd: float | None = Field(default=None, ge=0)
    """All calls of a day together."""
    per_principal_day_usd: float | None = Field(default=None, ge=0)
    """Each principal's calls of a day."""
    per_thread_usd: float | None = Field(default=None, ge=0)
    """All calls of a thread, whenever they are."""


class CacheSettings(_Section):
    """Whether answers to requests with temperature 0, without tools and not streamed, are given again."""

    enabled: bool = False
    ttl_seconds: float = Field(default=3600, gt=0)
    """How old they may be."""


class Settings(_Section):
    """The whole configuration."""

    server: ServerSettings = ServerSettings()
    state: StateSettings = StateSettings()
    agent: AgentSettings = AgentSettings()
    providers: dict[str, ProviderSettings] = Field(default_factory=dict)
    models: dict[str, tuple[ChainLink, ...]] = Field(default_factory=dict)
    """Alias -> fallback chain, in order. `auto` is what requests mean that name no model."""
    model_groups: dict[str, ModelGroup] = Field(default_factory=dict)
    """Alias -> models that stand in for each other, and how one of them is chosen."""
    fallbacks: FallbackConfig = FallbackConfig()
    router: RouterConfig = RouterConfig()
    notify: NotifySettings = NotifySettings()
    budgets: BudgetSettings = BudgetSettings()
    cache: CacheSettings = CacheSettings()

    @field_validator("*", mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        """A heading with nothing under it is an empty section, not a mistake."""
        return {} if value is None else value

    @field_validator("providers", mode="before")
    @classmethod
    def _bare_names(cls, value: Any) -> Any:
        """`groq:` alone is the provider with everything from the catalogue."""
        if not isinstance(value, Mapping):
            return value
        return {name: {} if entry is None else entry for name, entry in value.items()}

    @field_validator("models", "model_groups", mode="before")
    @classmethod
    def _right_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """A chain is a list, a group a mapping, and a name is one of them."""
        if not isinstance(value, Mapping):
            return value
        for name, entry in value.items():
            if info.field_name == "models" and not (isinstance(entry, list | tuple) and entry):
                raise ValueError(
                    f"{name} is no chain; give a list of {{provider: ..., model: ...}}, "
                    "or put it under model_groups if it has a strategy"
                )
            if info.field_name == "model_groups" and not isinstance(entry, Mapping | ModelGroup):
                raise ValueError(
                    f"{name} is no group; give `strategy` and `of`, or put it under models if it is a chain"
                )
        if twice := value.keys() & info.data.get("models", {}).keys():
            raise ValueError(f"{min(twice)} is under models, too; keep one")
        return value

    @property
    def data_dir(self) -> Path:
        """The data folder. It need not exist yet: see `data_dir.prepare_data_dir`."""
        if self.state.data_dir is None:
            raise ValueError("these settings were not made by load_settings and name no data folder")
        return self.state.data_dir

    @property
    def database(self) -> Path | str:
        """The SQLite file, or the URL of a server."""
        return self.data_dir / STATE_FILE if self.state.url is None else self.state.url.get_secret_value()

    def effective_roots(self, cwd: Path, home: Path, tmp: Path) -> tuple[Path, ...]:
        """The folders that projects may be in, without those of single keys.

        With none configured: home, the temporary folder, and the folder the service was started in
        unless that belongs to the system.
        """
        if self.agent.allowed_roots:
            return self.agent.allowed_roots
        usual = [folder for folder in (home, tmp) if folder != Path("/")]
        if not is_system_folder(cwd) and cwd not in _WIDE_FOLDERS:
            usual.append(cwd)
        return tuple(dict.fromkeys(usual))


def load_settings(config: Path | None, overrides: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings from all sources.

    `config` None means `$XDG_CONFIG_HOME/agent-service/config.yaml`, which need not exist. `overrides` are
    the command line's values under dotted keys (`server.port`) or nested; None = not given. Raises
    ConfigError with one line for each mistake; no line shows a value that could be a secret.
    """
    home = home_folder(environ)
    layers = Layers()
    file = config or default_config_file(environ)
    if config is not None or file.exists():
        layers.add_file(read_config_file(file, environ))
    layers.add_environment(environ)
    layers.add_overrides(overrides)
    state = layers.data.get("state") or {}
    if isinstance(state, dict) and state.get("data_dir") is None:
        layers.data["state"] = {**state, "data_dir": _xdg(environ, "XDG_DATA_HOME", ".local/share")}
    try:
        return Settings.model_validate(layers.data, context={"home": home})
    except ValidationError as error:
        raise layers.explain(error, Settings) from None


def routing_config(settings: Settings, environ: Mapping[str, str]) -> RoutingConfig:
    """What the router is told. Without configured providers: those that the environment has keys for.

    Raises ConfigError when a provider's key or address is missing.
    """
    if settings.providers:
        providers = configured_specs(settings.providers, environ)
    else:
        providers = specs_from_environment(environ)
    return RoutingConfig(
        providers=providers,
        aliases=settings.models,
        groups=settings.model_groups,
        fallbacks=settings.fallbacks,
        router=settings.router,
    )


def default_config_file(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/agent-service/config.yaml`."""
    return _xdg(environ, "XDG_CONFIG_HOME", ".config") / "config.yaml"


def home_folder(environ: Mapping[str, str]) -> Path:
    """The user's home folder. Raises ConfigError when there is none."""
    try:
        return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    except RuntimeError:
        raise ConfigError("there is no home folder; set HOME, or give --config and --data-dir") from None


def _xdg(environ: Mapping[str, str], variable: str, usual: str) -> Path:
    base = Path(environ.get(variable, ""))
    # The XDG Base Directory Specification has relative paths ignored.
    return (base if base.is_absolute() else home_folder(environ) / usual) / "agent-service"
