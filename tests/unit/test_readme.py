"""The README is true: what it lists is what there is."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from agent_service.cli.commands import cli
from agent_service.cli.http_server import LAST_SECONDS
from agent_service.settings import Settings
from routing.catalogue import known_providers

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROSE = " ".join(README.split())


def blocks(tag: str) -> list[str]:
    return re.findall(rf"^```{tag}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def inner_models(annotation: Any, path: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The models in a type, each with what stands between the field's name and those of its own fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, path
        return
    origin = get_origin(annotation)
    path += ".NAME" if origin is dict else "[]" if origin is tuple else ""
    for each in get_args(annotation):
        yield from inner_models(each, path)


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo, bool]]:
    """The path of every setting, its field, and whether there are none below it."""
    for name, field in model.model_fields.items():
        below = list(inner_models(field.annotation))
        yield prefix + name, field, not below
        for inner, path in below:
            yield from fields_of(inner, f"{prefix}{name}{path}.")


def settings_table() -> Iterator[tuple[str, str]]:
    """The settings of the table, each with its default. A first name that ends with a dot is before all."""
    table = README.partition("| setting | default | what |\n|---|---|---|\n")[2].partition("\n\n")[0]
    for row in table.splitlines():
        names, default, _ = row.removeprefix("| ").split(" | ", 2)
        first, *others = re.findall(r"`([^`]+)`", names)
        for name in [first + each for each in others] if first.endswith(".") else [first, *others]:
            yield name, default.strip("`")


def test_the_defaults_of_the_settings() -> None:
    known = {path: field for path, field, _ in fields_of(Settings)}
    for name, default in settings_table():
        field = known[name]
        if field.is_required():
            assert default == "needed", name
        else:
            usual = field.get_default(call_default_factory=True)
            assert yaml.safe_load(default) == (list(usual) if isinstance(usual, tuple) else usual), name


def test_every_setting_is_named_once() -> None:
    names = [name for name, _ in settings_table()]
    assert len(set(names)) == len(names)
    whole = {each for each in names if not any(name.startswith((f"{each}.", f"{each}[")) for name in names)}
    for path in (path for path, _, is_leaf in fields_of(Settings) if is_leaf):
        above = {path[: step.start()] for step in re.finditer(r"\[|\.", path)}
        assert whole & {path, *above}, path


def test_every_command_that_is_shown_is_understood() -> None:
    shown = re.findall(r"(?:^|\| )agent-service (.*)$", "".join(blocks("sh")), re.MULTILINE)
    assert len(shown) > 15
    for line in shown:
        ran = CliRunner().invoke(cli, [*shlex.split(line, comments=True), "--help"])
        assert ran.exit_code == 0, f"{line}\n{ran.output}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", pages, re.MULTILINE))
    assert {"postgres", "serve", "test"} <= named <= targets


def test_the_systemd_unit() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    [text] = blocks("ini")
    unit.read_string(text)
    assert unit["Service"]["ExecStart"].endswith("/agent-service serve")
    assert f"up to {LAST_SECONDS:g} seconds" in PROSE


def test_so_many_key_variables_are_known() -> None:
    known = sum(bool(each.env_keys) for each in known_providers().values())
    assert f"{known} are known" in PROSE


def test_the_picture_is_there() -> None:
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).stat().st_size > 1000
