"""From exceptions to answers: the only table of HTTP statuses, always in OpenAI's error shape."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from agent_service.agent.contract import Documented
from agent_service.agent.errors import InvalidRequest
from agent_service.api.json_route import BadJson
from agent_service.api.validation import first_misfit
from agent_service.config_file import ConfigError
from agent_service.keys import errors as accounts
from checkpoints import errors as store
from checkpoints.diagnosis import diagnose
from routing import errors as routing
from routing.usage import BudgetExceeded

logger = logging.getLogger(__name__)


CLIENT_LEFT = 499
"""The status of an answer that nobody receives, as nginx has it in its logs."""


class ErrorBody(Documented):
    """What went wrong and what to do about it."""

    message: str
    """A sentence for people."""
    type: str
    """OpenAI's word for the kind of error."""
    param: str | None = None
    """The field at fault."""
    code: str | None = None
    """For programs."""


class ErrorAnswer(Documented):
    """The body of every 4xx and 5xx."""

    error: ErrorBody
    """The error."""


_TABLE: tuple[tuple[type[Exception], int, str], ...] = (
    (store.ThreadNotFound, 404, "thread_not_found"),
    (store.CheckpointNotFound, 404, "checkpoint_not_found"),
    (store.ThreadBusy, 409, "thread_busy"),
    (store.QuestionOpen, 409, "question_open"),
    (store.NotWaiting, 409, "not_waiting"),
    (store.AlreadyAnswered, 409, "already_answered"),
    (store.KeyReused, 422, "idempotency_key_reused"),
    (store.LeaseLost, 503, "taken_over"),
    (store.DatabaseUnusable, 503, "database_unavailable"),
    (store.StateDamaged, 500, "state_damaged"),
    (accounts.AccountInvalid, 422, "invalid_request"),
    (accounts.AccountNotFound, 404, "account_not_found"),
    (accounts.AccountConfigured, 409, "account_configured"),
    (accounts.KeyNotAccepted, 422, "key_not_accepted"),
    (accounts.MasterKeyUnusable, 503, "master_key_unusable"),
    (ConfigError, 503, "misconfigured"),
    (routing.ModelNotFound, 404, "model_not_found"),
    (routing.ProviderNotFound, 404, "provider_not_found"),
    (routing.Unsupported, 422, "unsupported"),
    (routing.NoProviderConfigured, 503, "no_provider"),
    (routing.NoProviderAvailable, 503, "no_provider_available"),
    (BudgetExceeded, 429, "budget_exceeded"),
    (routing.RateLimited, 429, "rate_limited"),
    (routing.ContextTooLong, 400, "context_length_exceeded"),
    (routing.ContentRefused, 400, "content_policy_violation"),
    (routing.RequestRejected, 400, "rejected_by_provider"),
    (routing.KeyRefused, 502, "provider_refused_key"),
    (routing.ProviderTimeout, 504, "provider_timeout"),
    (routing.ProviderError, 502, "provider_error"),
    (routing.RoutingError, 502, "provider_error"),
)
"""Looked through from the top, so the narrower class stands before the wider."""

_PASSING = (store.LeaseLost, store.DatabaseUnusable, routing.NoProviderAvailable)
"""What may be over when the same request comes again; for the rest somebody has to do something first."""


def error_answer(
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer in OpenAI's error shape."""
    body = {"message": message, "type": error_type(status), "param": param, "code": code}
    return JSONResponse({"error": body}, status_code=status, headers=dict(headers or {}))


def error_type(status: int) -> str:
    """OpenAI's word for the kind of error."""
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "api_error"
    )


def classify(error: Exception) -> tuple[int, str]:
    """Status and code of an error of ours."""
    for kind, status, code in _TABLE:
        if isinstance(error, kind):
            return status, code
    return 500, "internal"


def error_object(error: Exception) -> dict[str, str | None]:
    """What an ErrorAnswer has of an error of ours or of the database, for an answer that has begun."""
    if isinstance(error, SQLAlchemyError) and not isinstance(error, store.DatabaseUnusable):
        logger.error("the database refused: %s", error)
        error = store.DatabaseUnusable(diagnose(error))
    status, code = classify(error)
    return {"message": str(error), "type": error_type(status), "param": None, "code": code}


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the application an ErrorAnswer."""

    @app.exception_handler(store.CheckpointError)
    @app.exception_handler(routing.RoutingError)
    @app.exception_handler(accounts.AccountError)
    @app.exception_handler(ConfigError)
    async def known(_: Request, error: Exception) -> JSONResponse:
        status, code = classify(error)
        wait = getattr(error, "retry_after", None)
        headers = {"Retry-After": str(max(1, math.ceil(wait)))} if wait is not None else {}
        if not headers and isinstance(error, _PASSING):
            headers["Retry-After"] = "5"
        param = getattr(error, "param", None)
        return error_answer(status, str(error), code, param=param, headers=headers)

    @app.exception_handler(InvalidRequest)
    async def unfit(_: Request, error: InvalidRequest) -> JSONResponse:
        return error_answer(422, str(error), error.code, param=error.param)

    @app.exception_handler(BadJson)
    async def bad_json(_: Request, error: BadJson) -> JSONResponse:
        return error_answer(400, str(error.detail), "invalid_request")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        misfit = first_misfit(error, request.scope.get("route"))
        return error_answer(422, misfit.message, "invalid_request", param=misfit.param)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        return error_answer(error.status_code, str(error.detail), code, headers=error.headers)

    @app.exception_handler(SQLAlchemyError)
    async def store_failed(_: Request, error: SQLAlchemyError) -> JSONResponse:
        logger.error("the database refused: %s", error)
        return error_answer(503, diagnose(error), "database_unavailable", headers={"Retry-After": "5"})

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_answer(500, "The service failed at this request; its log says why.", "internal")
