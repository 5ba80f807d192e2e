"""Foreign packages of our names are noticed, named, and never run."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

import agent_service
from agent_service.shadow import PACKAGES, Shadow, explain, find_shadows

HOME = Path(agent_service.__file__).parent.parent


def foreign(folder: Path, name: str, *, regular: bool = True) -> Path:
    package = folder / name
    package.mkdir(parents=True)
    if regular:
        (package / "__init__.py").write_text("from pathlib import Path\nPath(__file__ + '.ran').touch()\n")
    return package


def test_our_own_packages_are_no_shadows() -> None:
    assert find_shadows(HOME) == []


@pytest.mark.parametrize("regular", [True, False])
def test_a_foreign_package_is_named(tmp_path: Path, regular: bool) -> None:
    package = foreign(tmp_path, "tools", regular=regular)
    found = find_shadows(HOME, ["tools"], lambda name: PathFinder.find_spec(name, [str(tmp_path)]))
    assert found == [Shadow("tools", package / "__init__.py" if regular else package)]


def test_a_missing_package_is_told() -> None:
    found = find_shadows(HOME, ["tools"], lambda name: None)
    assert found == [Shadow("tools", None)]
    assert "Install agent-service again" in explain(found[0], Path("/"))


def test_an_overwritten_package_is_noticed_by_its_missing_marker(tmp_path: Path) -> None:
    foreign(tmp_path, "routing")
    assert find_shadows(tmp_path, ["routing"], lambda name: PathFinder.find_spec(name, [str(tmp_path)]))


def test_every_package_of_ours_carries_the_marker() -> None:
    for name in PACKAGES:
        assert f'AGENT_SERVICE_PACKAGE = "{name}"' in (HOME / name / "__init__.py").read_text()


def test_started_beside_a_users_tools_folder_it_explains_and_runs_nothing(tmp_path: Path) -> None:
    package = foreign(tmp_path, "tools")
    # The current folder first and ours last, as a site-packages folder would be.
    start = f"import sys; sys.path.append({str(HOME)!r}); from agent_service.__main__ import main; main()"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", start],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert str(package) in done.stderr and "python -I -m agent_service" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(package.glob("*.ran"))
