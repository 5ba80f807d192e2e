"""Every error that the service answers with: its status, its code, and what it means."""

from __future__ import annotations

from enum import Enum


class ErrorCode(Enum):
    """One error. The description of the API is made of these, and answers are made with nothing else."""

    def __init__(self, status: int, code: str, meaning: str) -> None:
        self.status, self.code, self.meaning = status, code, meaning

    # of the request itself
    MALFORMED = 400, "invalid_request", "the body is no JSON object that is taken"
    INVALID = 422, "invalid_request", "a field or parameter is missing or wrong; `param` names it"
    BODY_TIMEOUT = 408, "body_timeout", "the body did not arrive in time"
    TOO_LARGE = 413, "request_too_large", "the body is larger than `server.max_body_bytes`"
    NOT_JSON = 415, "unsupported_media_type", "the body was not sent as `application/json`"
    HEAD_TOO_LARGE = 431, "head_too_large", "the head of the request is too large"
    NOT_FOUND = 404, "not_found", "there is no such route"
    METHOD_NOT_ALLOWED = 405, "method_not_allowed", "the route takes other methods; see `Allow`"

    # of who asks, and from where
    INVALID_API_KEY = 401, "invalid_api_key", "there is no valid key with it"
    ADMIN_REQUIRED = 403, "admin_required", "the key is not an admin's"
    OTHER_USER = 403, "other_user", "without keys only the user that runs the service may use it"
    ORIGIN_NOT_ALLOWED = (
        403,
        "origin_not_allowed",
        "the web page's `Origin` is not in `server.allowed_origins`",
    )
    HOST_NOT_ALLOWED = 421, "host_not_allowed", "the `Host` is not in `server.allowed_hosts`"

    # of how much is asked
    RATE_LIMITED = (
        429,
        "rate_limited",
        "too many requests, of the caller's or to the provider; see `Retry-After`",
    )
    BUDGET_EXCEEDED = 429, "budget_exceeded", "a budget is used up; see `Retry-After`"
    OVERLOADED = 503, "overloaded", "too many requests are worked on at once; see `Retry-After`"

    # of threads
    THREAD_NOT_FOUND = 404, "thread_not_found", "there is no such thread, or it is somebody else's"
    CHECKPOINT_NOT_FOUND = 404, "checkpoint_not_found", "the thread is there, but has no such checkpoint"
    THREAD_BUSY = (
        409,
        "thread_busy",
        "a run is under way, or the same request is being served; see `Retry-After`",
    )
    QUESTION_OPEN = 409, "question_open", "the thread waits for an answer first"
    NOT_WAITING = 409, "not_waiting", "no open question has that `tool_call_id`"
    ALREADY_ANSWERED = 409, "already_answered", "another answer was taken"
    ANSWER_UNCLEAR = 422, "answer_unclear", "an approval wants a clear yes or no; the question stays open"
    KEY_REUSED = 422, "idempotency_key_reused", "the `Idempotency-Key` came with another request before"
    TAKEN_OVER = 503, "taken_over", "another process goes on with the thread; see `Retry-After`"

    # of providers and models
    NO_PROVIDER = 503, "no_provider", "no provider is configured; the message names the ways out"
    NO_PROVIDER_AVAILABLE = (
        503,
        "no_provider_available",
        "all that are suitable are down just now; see `Retry-After`",
    )
    MODEL_NOT_FOUND = 404, "model_not_found", "there is no such model; the message names the nearest"
    PROVIDER_NOT_FOUND = 404, "provider_not_found", "there is no such provider; the message names the nearest"
    UNSUPPORTED = 422, "unsupported", "no configured model can ever serve the request"
    CONTEXT_TOO_LONG = 400, "context_length_exceeded", "the request does not fit any model's window"
    CONTENT_REFUSED = 400, "content_policy_violation", "the provider's policy forbids it"
    REJECTED = 400, "rejected_by_provider", "the provider says that the request is wrong"
    KEY_REFUSED = 502, "provider_refused_key", "the provider refuses our key"
    PROVIDER_ERROR = 502, "provider_error", "the provider failed"
    PROVIDER_TIMEOUT = 504, "provider_timeout", "the provider did not answer in time"

    # of accounts
    ACCOUNT_NOT_FOUND = 404, "account_not_found", "there is no such account"
    ACCOUNT_CONFIGURED = (
        409,
        "account_configured",
        "the configuration or the environment has it; change it there",
    )
    KEY_NOT_ACCEPTED = 422, "key_not_accepted", "the provider refuses the key, so it was not stored"
    MASTER_KEY_UNUSABLE = 503, "master_key_unusable", "the master key does not open the stored keys"
    MISCONFIGURED = 503, "misconfigured", "the configuration or the master key's file does not do"

    # of the service
    DATABASE_UNAVAILABLE = 503, "database_unavailable", "the database does not answer; see `Retry-After`"
    SHUTTING_DOWN = 503, "shutting_down", "the run goes on when the service is back; see `Retry-After`"
    STATE_DAMAGED = 500, "state_damaged", "what is stored of the thread cannot be read"
    INTERNAL = 500, "internal", "the service failed; its log says why"

    @property
    def type(self) -> str:
        """OpenAI's word for the kind of error."""
        return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "api_error"
        )

    def body(self, message: str, param: str | None = None) -> dict[str, dict[str, str | None]]:
        """The body of an answer, in OpenAI's error shape."""
        return {"error": {"message": message, "type": self.type, "param": param, "code": self.code}}
