"""The keyring of the operating system, as far as it holds our master key. Needs the extra `keyring`.

It is only read: what unlocks all other keys is put there, and replaced, by the person whose keyring it is.
"""

from __future__ import annotations

from agent_service.config_file import ConfigError

SERVICE, ENTRY = "agent-service", "master-key"
HOW_TO_SET = f"keyring set {SERVICE} {ENTRY}"
_LEAST_PRIORITY = 1
"""Of a backend that its authors recommend; lesser ones keep secrets in plain files, or nowhere."""


def read_keyring() -> str | None:
    """What is kept there; None = nothing, or there is no keyring. Raises ConfigError when it is locked."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        backend = keyring.get_keyring()
        if backend.priority < _LEAST_PRIORITY:
            return None
        return (backend.get_password(SERVICE, ENTRY) or "").strip() or None
    except (KeyringError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"the system's keyring does not open ({type(error).__name__}: {error}); unlock it, or give the "
            "master key in the environment"
        ) from None
