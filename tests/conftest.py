"""Fixtures for every tier."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project folder, next to a folder that no agent may touch."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder
