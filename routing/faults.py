"""From what a provider answered to the error that says what can be done about it (DESIGN 3.5)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from routing.errors import (
    ContentRefused,
    ContextTooLong,
    KeyRefused,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from routing.redaction import presentable

_KEY_OR_MODEL = frozenset({401, 402, 403, 404, 405, 410})
_PASSING = frozenset({409, 425, 498})
"""Conflict, too early, out of capacity: statuses below 500 that the same request may not meet again."""
_LATE = frozenset({408, 504})

_CONTEXT_CODES = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"}
)
_CONTEXT_WORDS = re.compile(
    r"""(?ix)
    maximum \s context | context[\s_]+(?:length|size|window) .{0,80} (?: exceed | too | larger | limit )
  | (?: exceed | larger \s than | longer \s than | outside | beyond | overflow ) .{0,80} context
  | (?: prompt | input | request ) \s (?: is | was ) \s too \s (?: long | large )
  | too \s many \s (?: input \s | prompt \s )? tokens
  | (?: input | prompt ) \s token (?:s | \s count ) .{0,60} exceed
  | reduce \s the \s length \s of \s the \s (?: messages | prompt | input )
    """
)
_RATE_WORDS = re.compile(r"(?i)per (?:minute|hour|day)|rate.?limit")
_KEY_CODES = frozenset({"invalid_api_key", "model_not_found", "model_decommissioned", "insufficient_quota"})
_CONTENT_CODES = frozenset(
    {"content_filter", "content_policy_violation", "moderation_blocked", "responsibleaipolicyviolation"}
)
_KEY_WORDS = re.compile(
    r"(?i)(?:api.?key|token) (?:is )?(?:not valid|invalid|expired)|(?:invalid|incorrect) api.?key"
)
_DELAY_WORDS = re.compile(r"(?i)(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?) ?(ms|milliseconds|s\b|sec)")


def from_status(
    provider: str, status: int, headers: Mapping[str, str], body: Any, secrets: Iterable[str] = ()
) -> ProviderError:
    """The error for an answer with this status; `body` is its decoded JSON, or its text."""
    message, code = _words(body)
    shown = f"{provider} answered {status}" + (f": {presentable(message, secrets)}" if message else "")
    if status == 429:
        return RateLimited(provider, shown, status, retry_after=retry_after(headers, message))
    if 400 <= status < 500 and _is_about_context(message, code, status):
        return ContextTooLong(provider, shown, status)
    if 400 <= status < 500 and code.lower() in _CONTENT_CODES:
        return ContentRefused(provider, shown, status)
    if status in _LATE:
        return ProviderTimeout(provider, shown, status)
    if status < 400:
        return ProviderUnavailable(provider, f"{provider} answered {status}, which is no answer", status)
    if status >= 500 or status in _PASSING:
        return ProviderUnavailable(provider, shown, status)
    if status in _KEY_OR_MODEL or code in _KEY_CODES or _KEY_WORDS.search(message):
        return KeyRefused(provider, shown, status)
    return RequestRejected(provider, shown, status)


def from_error_object(provider: str, error: Any, secrets: Iterable[str] = ()) -> ProviderError:
    """The error for an `error` object inside an answer that claimed success.

    The claim makes its details doubtful, so only what leads to another candidate is taken from them.
    """
    message, code = _words({"error": error})
    shown = (
        f"{provider} sent an error inside its answer: {presentable(message, secrets) or 'no reason given'}"
    )
    if code == "429" or "rate_limit" in code:
        return RateLimited(provider, shown, 200, retry_after=retry_after({}, message))
    if _is_about_context(message, code, 200):
        return ContextTooLong(provider, shown, 200)
    if code.lower() in _CONTENT_CODES:
        return ContentRefused(provider, shown, 200)
    return ProviderUnavailable(provider, shown, 200)


def retry_after(headers: Mapping[str, str], message: str = "") -> float | None:
    """Seconds to wait, from `retry-after-ms`, `Retry-After` (seconds or HTTP date) or the message's words."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if (seconds := _number(text)) is not None:
        return seconds
    if text:
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            pass
    if match := _DELAY_WORDS.search(message):
        return float(match[1]) / (1000 if match[2].startswith("m") else 1)
    return None


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\s*\d{1,9}(?:\.\d{1,9})?\s*", text) else None


def _is_about_context(message: str, code: str, status: int) -> bool:
    if code in _CONTEXT_CODES or status == 413:
        return True
    return bool(_CONTEXT_WORDS.search(message)) and not _RATE_WORDS.search(message)


def _words(body: Any) -> tuple[str, str]:
    """Message and code of an error body, in any of the shapes providers use; empty if there is none."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return (body if isinstance(body, str) and not body.lstrip().startswith("<") else ""), ""
    error = body.get("error", body)
    if not isinstance(error, dict):
        return str(error), str(body.get("code") or "")
    message = error.get("message") or error.get("detail") or error.get("msg") or ""
    code = error.get("code") or ""
    if not isinstance(code, str) or code not in _CONTEXT_CODES | _KEY_CODES:
        # llama.cpp and some gateways put the telling word into `type` and a bare status into `code`.
        code = error["type"] if error.get("type") in _CONTEXT_CODES | _KEY_CODES else code
    return (message if isinstance(message, str) else str(message)), str(code)
