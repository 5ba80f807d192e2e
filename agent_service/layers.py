"""Layers of configuration laid over each other, remembering for every value where it came from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from agent_service.config_file import ConfigError, ConfigFile, KeyPath, dotted, read_value

ENV_PREFIX = "AGENT_SERVICE_"
CLIENT_VARIABLES = frozenset({"AGENT_SERVICE_URL", "AGENT_SERVICE_API_KEY"})
"""Read by the command line as a client of a running service; no settings."""
MASTER_KEY_VARIABLE = "AGENT_SERVICE_MASTER_KEY"
"""Read where keys are encrypted (`agent_service.keys.master`); no setting, so that no settings hold it."""
_NO_SETTINGS = CLIENT_VARIABLES | {MASTER_KEY_VARIABLE}

# What Kubernetes sets in every container beside a Service that is named agent-service.
_SERVICE_DISCOVERY = re.compile(
    r"AGENT_SERVICE_(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(TCP|UDP)\w*)|AGENT_SERVICE_PORT=(tcp|udp)://.*"
)


class Layers:
    """A configuration in the making."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self._origins: dict[KeyPath, str] = {}

    def add_file(self, file: ConfigFile) -> None:
        """Lay a file's content on top."""
        _lay(self.data, file.data)
        self._origins.update({path: f"{file.path}, line {line}" for path, line in file.lines.items()})

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """Lay the `AGENT_SERVICE_*` variables on top. An empty one counts as not set. Raises ConfigError."""
        for name in sorted(environ):
            value = environ[name]
            if not name.startswith(ENV_PREFIX) or name in _NO_SETTINGS or not value:
                continue
            if _SERVICE_DISCOVERY.fullmatch(name) or _SERVICE_DISCOVERY.fullmatch(f"{name}={value}"):
                continue
            path = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            self._set(path, _parse_variable(name, value), f"environment variable {name}")

    def add_overrides(self, overrides: Mapping[str, Any]) -> None:
        """Lay command line values on top: nested mappings, or dotted keys such as `server.port`.

        None stands for an option that was not given.
        """
        for key, value in overrides.items():
            if isinstance(value, Mapping):
                self.add_overrides({f"{key}.{name}": part for name, part in value.items()})
            elif value is not None:
                self._set(tuple(key.split(".")), value, "command line")

    def _set(self, path: tuple[str, ...], value: Any, origin: str) -> None:
        if isinstance(value, Mapping) and value:
            for name, part in value.items():
                self._set((*path, str(name)), part, origin)
            return
        nested = value
        for part in reversed(path):
            nested = {part: nested}
        _lay(self.data, nested)
        for replaced in [known for known in self._origins if known[: len(path)] == path]:
            del self._origins[replaced]
        self._origins[path] = origin

    def explain(self, error: ValidationError, model: type[BaseModel]) -> ConfigError:
        """Pydantic's findings as sentences: where, which key, why, and the nearest known name."""
        return ConfigError(
            "\n".join(
                self._sentence(tuple(e["loc"]), e["type"], e["msg"], model)
                for e in error.errors(include_url=False, include_input=False, include_context=False)
            )
        )

    def place(self, path: KeyPath) -> str:
        """Where the value of that key came from: `FILE, line N`, a variable, or the command line."""
        for length in range(len(path), 0, -1):
            if origin := self._origins.get(path[:length]):
                return origin
        return "configuration"

    def _sentence(self, path: KeyPath, kind: str, reason: str, model: type[BaseModel]) -> str:
        reason = reason.removeprefix("Value error, ")
        if kind == "extra_forbidden":
            known = known_names(model, path[:-1])
            near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            reason = f"there is no such key; {hint}"
        elif kind == "string_type":
            reason += "; put it in quotes"
        name = dotted(path)
        return f"{self.place(path)}: {name}: {reason}" if name else f"{self.place(path)}: {reason}"


def known_names(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the model knows at that path."""
    annotation: Any = model
    for part in path:
        here = _models_in(annotation)
        field = here[0].model_fields.get(str(part)) if here else None
        # A part that is no field is a key of a mapping or an index: its values' model is the same one.
        annotation = field.annotation if field else annotation
    return [name for found in _models_in(annotation)[:1] for name in found.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def _parse_variable(name: str, value: str) -> Any:
    if value == "null":
        return None
    if value[0] not in "[{":
        return value
    try:
        return read_value(value)
    except ValueError as error:
        raise ConfigError(f"environment variable {name}: {error}") from None


def _lay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for name, value in above.items():
        beneath = below.get(name)
        if isinstance(value, Mapping) and isinstance(beneath, dict):
            _lay(beneath, value)
        else:
            below.pop(name, None)  # among patterns the last one counts, so what is laid on top comes last
            below[name] = _copied(value)


def _copied(value: Any) -> Any:
    return {name: _copied(part) for name, part in value.items()} if isinstance(value, Mapping) else value
