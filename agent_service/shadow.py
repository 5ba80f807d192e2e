"""Whether `tools`, `routing` and `checkpoints` are ours: folders of users have such names too.

`python -m agent_service` puts the current folder first on the import path, so that a `tools` folder in it
would be imported, and run, in place of ours. Nothing is imported here to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("tools", "routing", "checkpoints")
MARKER = "AGENT_SERVICE_PACKAGE"
"""Stands in each of our packages, because another distribution can overwrite their files in place."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A package of ours that an import would not give."""

    name: str
    found: Path | None
    """What an import would give instead; None = nothing at all."""


def find_shadows(
    beside: Path,
    packages: Iterable[str] = PACKAGES,
    find: Callable[[str], ModuleSpec | None] = find_spec,
) -> list[Shadow]:
    """Those of the packages that are not the ones in the folder `beside`. Runs no code of theirs."""
    shadows = []
    for name in packages:
        found = _location(find(name))
        ours = beside / name / "__init__.py"
        if found is None or found.resolve() != ours.resolve() or MARKER not in _text(ours):
            shadows.append(Shadow(name, found))
    return shadows


def explain(shadow: Shadow, cwd: Path) -> str:
    """Who is in the way, and what to do."""
    if shadow.found is None:
        return f"agent-service's package '{shadow.name}' is missing. Install agent-service again."
    blame = f"{shadow.found} is in the way of agent-service's own package '{shadow.name}'"
    if shadow.found.is_relative_to(cwd) and "site-packages" not in shadow.found.parts:
        return (
            f"{blame}: Python looks in the current folder first. Use the command `agent-service`, or "
            "`python -I -m agent_service`, or start from another folder."
        )
    return (
        f"{blame}. Remove its folder from PYTHONPATH, or install agent-service into an environment of "
        "its own (pipx does)."
    )


def _location(spec: ModuleSpec | None) -> Path | None:
    if spec is None:
        return None
    if spec.origin is not None and spec.has_location:
        return Path(spec.origin)
    # A folder without __init__.py is found as a namespace: no origin, only places.
    return next((Path(place) for place in spec.submodule_search_locations or ()), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
