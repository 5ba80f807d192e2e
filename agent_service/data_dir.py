"""The data folder: for its owner's eyes only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent_service.config_file import ConfigError

STATE_FILE = "state.db"


def prepare_data_dir(path: Path) -> Path:
    """Make the folder with mode 0700 if it is missing, and see that nobody else can look inside.

    A folder of ours that is empty, or that holds our database, is closed to others; any other folder
    that others can enter is refused with ConfigError, because its mode is not ours to change.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise ConfigError(f"{path}: it belongs to another user; choose another folder with --data-dir")
        if stat.S_IMODE(found.st_mode) & 0o077:
            if not ((path / STATE_FILE).exists() or not any(path.iterdir())):
                raise ConfigError(
                    f"{path}: other users can enter it; run `chmod 700 {path}`, "
                    "or choose another folder with --data-dir"
                )
            path.chmod(0o700)
        if not os.access(path, os.W_OK | os.X_OK):
            raise ConfigError(f"{path}: it is not writable; choose another folder with --data-dir")
    except FileExistsError:
        raise ConfigError(f"{path}: it is not a folder; choose another with --data-dir") from None
    except OSError as error:
        raise ConfigError(f"{path}: the data folder cannot be made: {error.strerror}") from None
    return path
