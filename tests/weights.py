"""Weights for tests with a real model: downloaded once into the user's cache, else the test is skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_service.local_model.engine import engine_available
from agent_service.local_model.weights import InstallError, Weights, install


def weights_or_skip(weights: Weights) -> Path:
    """The verified file. Skips the test, with the reason, where it cannot be had."""
    if not engine_available():
        pytest.skip("the engine is not installed here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agent-service-tests"
    try:
        return install(weights, cache, lambda _: None)
    except InstallError as error:
        pytest.skip(f"the weights cannot be had: {error}")
