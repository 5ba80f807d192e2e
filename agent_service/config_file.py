"""The configuration file: YAML read as plain data, with the line of every key.

Stricter than YAML on purpose. Aliases (they can blow a few lines up to gigabytes), repeated keys, tags
and keys that are not words are refused, because each of them hides a mistake or an attack.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 256 * 1024
"""A configuration larger than this is not one."""

KeyPath = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$?\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ConfigError(Exception):
    """The configuration cannot be used. The message says where, why and what to do; it holds no secrets."""


class ValueUnreadable(ValueError):
    """Text that is no YAML list or mapping.

    `line` counts from 1 and is None when it is not known; `problem` may quote the text.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__("it is not a YAML list or mapping")
        self.problem, self.line = problem, line


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file's content."""

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int]
    """Line number, from 1, of each key and list item."""


def read_config_file(path: Path, environ: Mapping[str, str]) -> ConfigFile:
    """The file's content, with `${NAME}` in its values replaced from `environ`.

    `$${NAME}` stands for `${NAME}` itself. Raises ConfigError, also when the file cannot be read.
    """
    text = _read_text(path)
    lines: dict[KeyPath, int] = {}
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        data = {} if root is None else _Builder(loader, lines).value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{_place(path, mark)}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: it is not YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: a value makes no sense: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: it must be a mapping such as `server:` and `providers:`, not a {_kind(data)}"
        )
    return ConfigFile(path, _interpolate(data, (), path, lines, environ), lines)


def read_value(text: str) -> Any:
    """A value written as a YAML list or mapping, as in an environment variable.

    Raises ValueError when it is neither, as ValueUnreadable where the line is known.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return _Builder(loader, {}).value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "it cannot be read"
        raise ValueUnreadable(problem, mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        raise ValueUnreadable(error.reason, text.count("\n", 0, error.position) + 1) from error
    except RecursionError as error:
        raise ValueUnreadable("it is nested too deeply") from error
    except (
        yaml.YAMLError,
        AttributeError,
        LookupError,
    ) as error:  # a tag such as !!bool before something else
        raise ValueUnreadable("a value makes no sense") from error


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: it is larger than {MAX_BYTES // 1024} KiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: it is not UTF-8 text; save it as UTF-8") from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (`*name`) are not allowed here", mark)
        return super().compose_node(parent, index)


class _Builder:
    """Turns nodes into data, noting lines and refusing what YAML lets pass."""

    def __init__(self, loader: _Loader, lines: dict[KeyPath, int]) -> None:
        self._loader, self._lines = loader, lines

    def value(self, node: yaml.Node | None, path: KeyPath) -> Any:
        if isinstance(node, yaml.CollectionNode):
            self._refuse_tag(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._lines[(*path, index)] = item.start_mark.line + 1
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return None if node is None else self._loader.construct_object(node)

    def _refuse_tag(self, node: yaml.Node) -> None:
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            problem = f"the tag {node.tag!r} is not allowed here"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", mark)
            key = key_node.value  # as written: `on` and `1` are names here, not a truth value and a number
            if key in result:
                problem = f"the key {key!r} appears twice, first on line {self._lines[(*path, key)]}"
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
            self._lines[(*path, key)] = mark.line + 1
            result[key] = self.value(value_node, (*path, key))
        return result


def _interpolate(
    value: Any, path: KeyPath, file: Path, lines: Mapping[KeyPath, int], environ: Mapping[str, str]
) -> Any:
    if isinstance(value, dict):
        return {k: _interpolate(v, (*path, k), file, lines, environ) for k, v in value.items()}
    if isinstance(value, list):
        return [_interpolate(v, (*path, i), file, lines, environ) for i, v in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        place = f"{file}, line {lines[path]}: {dotted(path)}"
        if not _VARIABLE_NAME.fullmatch(match[1]):
            raise ConfigError(
                f"{place}: {match[0]} names no environment variable; write $${{...}} for the text itself"
            )
        if match[1] not in environ:
            raise ConfigError(
                f"{place}: the environment variable {match[1]} is not set; set it, or remove this key"
            )
        return environ[match[1]]

    return _VARIABLE.sub(replace, value)


def dotted(path: KeyPath) -> str:
    """A key path as people write it: `server.api_keys[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _place(path: Path, mark: yaml.Mark | None) -> str:
    return str(path) if mark is None else f"{path}, line {mark.line + 1}"


def _kind(value: object) -> str:
    return "list" if isinstance(value, list) else "single value"
