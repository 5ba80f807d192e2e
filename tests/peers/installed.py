"""Installs peers into the user's cache. A test is skipped, with the reason, where its peer cannot be had."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

LOCKS = Path(__file__).parent
INSTALL_SECONDS = 900


def environment_or_skip(name: str) -> Path:
    """The folder of programs of the environment made from `NAME.lock`."""
    lock = LOCKS / f"{name}.lock"

    def install(folder: Path) -> None:
        venv.create(folder, symlinks=True)
        # Without dependencies, because the lock names them all: what is not in it is not to come in.
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", *options]
        _run([*pip, "--require-hashes", "--requirement", str(lock)])

    return _installed(name, [lock], install) / "bin"


def node_package_or_skip(name: str) -> Path:
    """The `node_modules` made from the `package-lock.json` in the folder of that name."""
    files = [LOCKS / name / "package.json", LOCKS / name / "package-lock.json"]

    def install(folder: Path) -> None:
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder)

    return _installed(name, files, install) / "node_modules"


def _installed(name: str, made_from: Sequence[Path], install: Callable[[Path], None]) -> Path:
    """A folder that `install` fills, once for each content of the files that it is made from."""
    content = b"".join(file.read_bytes() for file in made_from) + sys.version.encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agent-service-tests/peers"
    folder = cache / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    whole = folder / ".whole"
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f".{name}.lock"):
        if not whole.exists():
            for old in cache.glob(f"{name}-*"):
                shutil.rmtree(old)
            try:
                install(folder)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"{name} cannot be installed here: {_reason(error)}")
            whole.touch()
    return folder


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS, cwd=cwd)


def _reason(error: Exception) -> str:
    told = (getattr(error, "stderr", None) or "").strip().splitlines()
    return next((line for line in told if "error" in line.lower()), str(error))


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
