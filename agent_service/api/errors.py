"""From exceptions to answers, always in OpenAI's error shape."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from agent_service.api.error_codes import ErrorCode
from agent_service.api.gates import Refusal
from agent_service.api.validation import first_misfit
from agent_service.config_file import ConfigError
from agent_service.documented import Documented
from agent_service.errors import InvalidRequest, UnclearAnswer
from agent_service.keys import errors as accounts
from checkpoints import errors as store
from checkpoints.diagnosis import diagnose, is_damage
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


_TABLE: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (UnclearAnswer, ErrorCode.ANSWER_UNCLEAR),
    (InvalidRequest, ErrorCode.INVALID),
    (store.ThreadNotFound, ErrorCode.THREAD_NOT_FOUND),
    (store.CheckpointNotFound, ErrorCode.CHECKPOINT_NOT_FOUND),
    (store.ThreadBusy, ErrorCode.THREAD_BUSY),
    (store.QuestionOpen, ErrorCode.QUESTION_OPEN),
    (store.NotWaiting, ErrorCode.NOT_WAITING),
    (store.AlreadyAnswered, ErrorCode.ALREADY_ANSWERED),
    (store.KeyReused, ErrorCode.KEY_REUSED),
    (store.LeaseLost, ErrorCode.TAKEN_OVER),
    (store.DatabaseUnusable, ErrorCode.DATABASE_UNAVAILABLE),
    (store.StateDamaged, ErrorCode.STATE_DAMAGED),
    (accounts.AccountInvalid, ErrorCode.INVALID),
    (accounts.AccountNotFound, ErrorCode.ACCOUNT_NOT_FOUND),
    (accounts.AccountConfigured, ErrorCode.ACCOUNT_CONFIGURED),
    (accounts.KeyNotAccepted, ErrorCode.KEY_NOT_ACCEPTED),
    (accounts.MasterKeyUnusable, ErrorCode.MASTER_KEY_UNUSABLE),
    (ConfigError, ErrorCode.MISCONFIGURED),
    (routing.ModelNotFound, ErrorCode.MODEL_NOT_FOUND),
    (routing.ProviderNotFound, ErrorCode.PROVIDER_NOT_FOUND),
    (routing.Unsupported, ErrorCode.UNSUPPORTED),
    (routing.NoProviderConfigured, ErrorCode.NO_PROVIDER),
    (routing.NoProviderAvailable, ErrorCode.NO_PROVIDER_AVAILABLE),
    (BudgetExceeded, ErrorCode.BUDGET_EXCEEDED),
    (routing.RateLimited, ErrorCode.RATE_LIMITED),
    (routing.ContextTooLong, ErrorCode.CONTEXT_TOO_LONG),
    (routing.ContentRefused, ErrorCode.CONTENT_REFUSED),
    (routing.RequestRejected, ErrorCode.REJECTED),
    (routing.KeyRefused, ErrorCode.KEY_REFUSED),
    (routing.ProviderTimeout, ErrorCode.PROVIDER_TIMEOUT),
    (routing.RoutingError, ErrorCode.PROVIDER_ERROR),
)
"""Looked through from the top, so the narrower class stands before the wider."""

_PASSING = (store.LeaseLost, store.DatabaseUnusable, routing.NoProviderAvailable)
"""What may be over when the same request comes again; for the rest somebody has to do something first."""


_LONGEST_PATH = 100
"""Characters of an address that is not known that are repeated."""


def error_answer(
    code: ErrorCode, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An answer in OpenAI's error shape."""
    return JSONResponse(code.body(message, param), status_code=code.status, headers=dict(headers or {}))


def classify(error: Exception) -> ErrorCode:
    """What an error of ours is called outside."""
    return next((code for kind, code in _TABLE if isinstance(error, kind)), ErrorCode.INTERNAL)


def error_object(error: Exception) -> dict[str, str | None]:
    """What an ErrorAnswer has of an error of ours or of the database, for an answer that has begun."""
    if isinstance(error, SQLAlchemyError) and not isinstance(error, store.DatabaseUnusable):
        logger.error("the database refused: %s", error)
        error = store.DatabaseUnusable(diagnose(error))
    return classify(error).body(str(error))["error"]


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the application an ErrorAnswer."""

    @app.exception_handler(InvalidRequest)
    @app.exception_handler(store.CheckpointError)
    @app.exception_handler(routing.RoutingError)
    @app.exception_handler(accounts.AccountError)
    @app.exception_handler(ConfigError)
    async def known(_: Request, error: Exception) -> JSONResponse:
        wait = getattr(error, "retry_after", None)
        headers = {"Retry-After": str(max(1, math.ceil(wait)))} if wait is not None else {}
        if not headers and isinstance(error, _PASSING):
            headers["Retry-After"] = "5"
        return error_answer(classify(error), str(error), param=getattr(error, "param", None), headers=headers)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return error_answer(error.code, error.message, param=error.param)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        misfit = first_misfit(error, request.scope.get("route"))
        return error_answer(ErrorCode.INVALID, misfit.message, param=misfit.param)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == ErrorCode.NOT_FOUND.status:
            words = f"There is no route {request.method} {_shown_path(request)}; /docs lists those there are."
            return error_answer(ErrorCode.NOT_FOUND, words)
        if error.status_code == ErrorCode.METHOD_NOT_ALLOWED.status:
            words = f"{_shown_path(request)} takes no {request.method}; /docs lists what it takes."
            return error_answer(ErrorCode.METHOD_NOT_ALLOWED, words, headers=error.headers)
        return error_answer(ErrorCode.MALFORMED, str(error.detail), headers=error.headers)

    @app.exception_handler(SQLAlchemyError)
    async def store_failed(_: Request, error: SQLAlchemyError) -> JSONResponse:
        logger.error("the database refused: %s", error)
        headers = {} if is_damage(error) else {"Retry-After": "5"}
        return error_answer(ErrorCode.DATABASE_UNAVAILABLE, diagnose(error), headers=headers)

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        words = "The service failed at this request; its log says why."
        # The error goes on to the server, which closes the connection: nobody is to send more over it.
        return error_answer(ErrorCode.INTERNAL, words, headers={"Connection": "close"})


def _shown_path(request: Request) -> str:
    """The path with everything escaped that could mean something to whoever shows it, and not at length."""
    path = quote(request.scope["path"][:_LONGEST_PATH], errors="replace")
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}..."
