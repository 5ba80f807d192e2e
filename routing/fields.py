"""Which fields of a request reach a provider."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

OPENAI_CHAT_FIELDS = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)
"""The body of OpenAI's `POST /chat/completions`, less `model` and `stream`, which the router sets itself.

A list of what may pass, because a list of what may not is never complete: `api_base`, `api_key`,
`extra_headers` and their many spellings would let a caller choose where our key is sent.
Source: OpenAI's API description 2.3.0, schema CreateChatCompletionRequest.
"""

_MOST_NAMED = 20
_LONGEST_NAME = 64


def forwarded(
    body: Mapping[str, Any], unsupported: Collection[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The part of the body that may go to a provider, and the sorted names of what may not.

    At most 20 names are given, and only plain ones: they come from the caller and end in a header.
    """
    passing = {key: body[key] for key in body if key in OPENAI_CHAT_FIELDS and key not in unsupported}
    dropped = sorted(key for key in body if key not in passing and key not in ("model", "stream"))
    return passing, tuple(name for name in dropped if _is_plain(name))[:_MOST_NAMED]


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isidentifier() and len(name) <= _LONGEST_NAME
