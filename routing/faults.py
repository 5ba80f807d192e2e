"""From what a provider answered to the error that says what can be done about it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
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
from routing.spans import LONGEST, seconds_at

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
_MODEL_CODES = frozenset({"model_not_found", "model_decommissioned"})
_KEY_CODES = frozenset({"invalid_api_key", "api_key_invalid"})
"""OpenAI's and Google's (the latter with status 400) for a key that is none."""
_MONEY_CODES = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})
"""OpenAI's, with status 429 or 400, for an account without money: waiting does not help it."""
_CONTENT_CODES = frozenset(
    {
        *("content_filter", "content_policy_violation", "moderation_blocked", "responsibleaipolicyviolation"),
        *("data_inspection_failed", "datainspectionfailed"),
    }
)
"""OpenAI's, Azure's (`content_filter`, inside `ResponsibleAIPolicyViolation`), Moonshot's and Alibaba's."""
_CONTENT_WORDS = re.compile(
    r"""(?ix)
    content \s management \s policy                             # Azure
  | output \s blocked \s by \s content \s filtering \s policy   # Anthropic
  | prompt \s was \s flagged \s as \s potentially \s violating  # OpenAI's thinking models
  | requires \s moderation .{0,60} input \s was \s flagged      # OpenRouter
  | (?: input | output ) \s was \s flagged \s as \s sensitive  # Replicate
  | ^ content \s exists \s risk                                # DeepSeek
  | ^ content \s violates \s usage \s guidelines               # xAI
    """
)
"""Whole phrases of those that give no code of their own: a bad request may have single words of them, too."""
_TELLING = _CONTEXT_CODES | _MODEL_CODES | _KEY_CODES | _MONEY_CODES | _CONTENT_CODES
_KEY_WORDS = re.compile(
    r"(?i)\W*(?:(?:the|your) )?(?:(?:provided|given) )?"
    r"(?:api.?key (?:provided |given )?(?:is )?(?:not valid|invalid|expired)|(?:invalid|incorrect) api.?key)"
)
"""At the beginning of a message: further on it may repeat what the request said."""
_MONEY_WORDS = re.compile(r"(?i)your credit balance is too low")
"""Anthropic's, with status 400."""
_PLAIN_REFUSALS = frozenset({400, 403, 429})
"""Statuses that some vendors send for a bad key or an empty account."""
_DELAY_WORDS = re.compile(r"(?i)(?:try again|retry) (?:in|after) (?=\d)")


def from_status(
    provider: str, status: int, headers: Mapping[str, str], body: Any, secrets: Iterable[str] = ()
) -> ProviderError:
    """The error for an answer with this status; `body` is its decoded JSON, or its text."""
    message, code = _words(body)
    shown = f"{provider} answered {status}" + (f": {presentable(message, secrets)}" if message else "")
    if meant := _about_the_account(status, message, code):
        return KeyRefused(provider, shown, meant)
    if status == 429:
        return RateLimited(provider, shown, status, retry_after=retry_after(headers, message))
    if 400 <= status < 500 and _is_about_context(message, code, status):
        return ContextTooLong(provider, shown, status)
    if 400 <= status < 500 and _is_about_content(message, code):
        return ContentRefused(provider, shown, status)
    if status in _LATE:
        return ProviderTimeout(provider, shown, status)
    if status < 400:
        return ProviderUnavailable(provider, f"{provider} answered {status}, which is no answer", status)
    if status >= 500 or status in _PASSING:
        return ProviderUnavailable(provider, shown, status)
    if status in _KEY_OR_MODEL or code in _MODEL_CODES:
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
    if _is_about_content(message, code):
        return ContentRefused(provider, shown, 200)
    return ProviderUnavailable(provider, shown, 200)


def retry_after(headers: Mapping[str, str], message: str = "") -> float | None:
    """Seconds to wait, from `retry-after-ms`, `Retry-After` (seconds or HTTP date) or the message's words.

    At most `spans.LONGEST`.
    """
    seconds = _told_delay(headers, message)
    return None if seconds is None else min(seconds, LONGEST)


def _told_delay(headers: Mapping[str, str], message: str) -> float | None:
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
    words = _DELAY_WORDS.search(message)
    return seconds_at(message, words.end()) if words else None


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\s*\d{1,99}(?:\.\d{1,9})?\s*", text) else None


def _about_the_account(status: int, message: str, code: str) -> int | None:
    """The status that is meant: 401 for a bad key, 402 for an account without money; None = neither."""
    if status not in _PLAIN_REFUSALS:
        return None
    if code in _KEY_CODES or _KEY_WORDS.match(message):
        return 401
    return 402 if code in _MONEY_CODES or _MONEY_WORDS.match(message) else None


def _is_about_context(message: str, code: str, status: int) -> bool:
    if code in _CONTEXT_CODES or status == 413:
        return True
    return bool(_CONTEXT_WORDS.search(message)) and not _RATE_WORDS.search(message)


def _is_about_content(message: str, code: str) -> bool:
    return code in _CONTENT_CODES or bool(_CONTENT_WORDS.search(message))


def _words(body: Any) -> tuple[str, str]:
    """Message and code of an error body, in any of the shapes providers use; empty if there is none.

    A code that tells something is in small letters.
    """
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return (body if isinstance(body, str) and not body.lstrip().startswith("<") else ""), ""
    error = body.get("error", body)
    if not isinstance(error, dict):
        return str(error), str(body.get("code") or "")
    message = error.get("message") or _detail(error.get("detail")) or error.get("msg") or ""
    codes = [each for each in _codes(error) if isinstance(each, str)]
    code = next((each.lower() for each in codes if each.lower() in _TELLING), error.get("code") or "")
    return (message if isinstance(message, str) else str(message)), str(code)


def _codes(error: Mapping[str, Any]) -> Iterator[Any]:
    """Where the telling word may be: `code`; `type`, beside a bare status (llama.cpp and some gateways); an
    inner error (Azure); a detail's reason (Google)."""
    yield error.get("code")
    yield error.get("type")
    inner, details = error.get("innererror"), error.get("details")
    if isinstance(inner, dict):
        yield inner.get("code")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield detail.get("reason")


def _detail(value: Any) -> Any:
    """FastAPI's list of what is wrong with a request, without the parts of the request that it repeats."""
    if not isinstance(value, list):
        return value
    return "; ".join(str(each.get("msg", "")) for each in value if isinstance(each, dict))
