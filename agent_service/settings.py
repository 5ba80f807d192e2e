"""Everything the operator decides, as one frozen value; and the one reader of the environment.

Sources, the earlier winning: command line, `AGENT_SERVICE_*` variables (`__` nests), the YAML file,
defaults. Mappings are merged key by key, lists are replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from agent_service.config_file import ConfigError, read_config_file
from agent_service.data_dir import STATE_FILE
from agent_service.layers import Layers
from agent_service.provider_settings import ProviderSettings, configured_specs, specs_from_environment
from agent_service.sections import (
    AgentSettings,
    BudgetSettings,
    CacheSettings,
    NotifySettings,
    Section,
    ServerSettings,
    StateSettings,
)
from routing.config import ChainLink, FallbackConfig, ModelGroup, RouterConfig, RoutingConfig
from tools.project import is_system_folder

_WIDE_FOLDERS = frozenset(map(Path, ("/home", "/media", "/mnt", "/opt", "/srv", "/Users")))
"""Of no system, but not one person's either."""


class Settings(Section):
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


def routing_config(
    settings: Settings, environ: Mapping[str, str], keyless: dict[str, str] | None = None
) -> RoutingConfig:
    """What the router is told. Without configured providers: those that the environment has keys for.

    Raises ConfigError when a provider's key or address is missing; with `keyless`, which takes up the
    providers without a key and what to do about each, only for the rest.
    """
    if settings.providers:
        providers = configured_specs(settings.providers, environ, keyless)
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
