"""What a client is told when the service fails."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient

from agent_service.api.errors import install_error_handlers


def test_after_a_fault_of_ours_the_connection_is_not_used_again() -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def fails() -> None:
        raise RuntimeError("a secret detail")

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert answer.status_code == 500
    assert answer.headers["connection"] == "close"
    assert answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text
