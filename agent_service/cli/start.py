"""What a command starts from: the options about configuration, and the settings they lead to."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent_service.settings import Settings, load_settings, routing_config
from routing.config import RoutingConfig

if TYPE_CHECKING:
    from agent_service.app import Launch


@dataclass(frozen=True, slots=True)
class Start:
    """The configuration of this process."""

    environ: Mapping[str, str]
    config: Path | None
    overrides: Mapping[str, object]
    settings: Settings
    known_secrets: set[str] = field(default_factory=set, repr=False, compare=False)
    """The keys that were met so far; see `secrets`."""

    @property
    def routing(self) -> RoutingConfig:
        """What the router is told. Raises ConfigError."""
        return routing_config(self.settings, self.environ)

    @property
    def options(self) -> str:
        """What another command needs to find the same configuration and state, with a blank before each."""
        given = (("--config", self.config), ("--data-dir", self.overrides.get("state.data_dir")))
        return "".join(f" {name} {shlex.quote(str(value))}" for name, value in given if value)

    @property
    def names_data_dir(self) -> bool:
        """Whether the command line says where the state is."""
        return self.overrides.get("state.data_dir") is not None

    @property
    def beginning(self) -> str:
        """What goes on before a model first speaks: without a provider, one of this machine is loaded."""
        configured = self.settings.providers or self.routing.providers
        return "working" if configured else "loading the model"

    def secrets(self) -> set[str]:
        """The providers' keys, to be kept out of logs; a service adds those that are stored."""
        # A running service may have the keys that this process lacks.
        keys = [spec.api_key for spec in routing_config(self.settings, self.environ, {}).providers]
        self.known_secrets.update(key.get_secret_value() for key in keys if key is not None)
        return self.known_secrets

    def launch(self, overrides: Mapping[str, object] | None = None, *, needs_keys: bool = True) -> Launch:
        """What a service is made from; `overrides` win over everything else."""
        from agent_service.app import Launch

        given = {**self.overrides, **(overrides or {})}
        return Launch(self.environ, self.config, given, secrets=self.known_secrets, needs_keys=needs_keys)


def read_start(config: Path | None, overrides: Mapping[str, object] | None = None) -> Start:
    """The configuration from all sources; `overrides` are the command line's. Raises ConfigError."""
    environ = dict(os.environ)
    file = None if config is None else Path(os.path.normpath(config.expanduser().absolute()))
    return Start(environ, file, overrides or {}, load_settings(file, overrides or {}, environ))
