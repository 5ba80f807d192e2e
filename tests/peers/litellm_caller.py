"""Calls a gateway by the litellm library, in its own environment: `python litellm_caller.py BASE_URL KEY`.

Prints one JSON object with what came of each call. Knows nothing of this repository.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network for prices when it is imported

litellm: Any = importlib.import_module("litellm")

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def main(base_url: str, key: str) -> dict[str, object]:
    place: dict[str, Any] = {
        "api_base": base_url,
        "api_key": key,
        "num_retries": 0,
        "max_retries": 0,
        "timeout": 20,
    }

    def ask(model: str = "auto", **fields: Any) -> Any:
        return litellm.completion(model=f"openai/{model}", messages=HELLO, **{**place, **fields})

    def error_of(**fields: Any) -> str:
        try:
            for _ in ask(**fields):
                pass
        except Exception as error:  # noqa: BLE001 - its name is what is asked for
            return type(error).__name__
        return "none"

    plain = ask()
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    call = ask(tools=[WEATHER]).choices[0].message.tool_calls[0]
    pieces = list(ask(tools=[WEATHER], stream=True))
    rebuilt = litellm.stream_chunk_builder(pieces).choices[0].message.tool_calls[0]
    return {
        "chat": plain.choices[0].message.content,
        "usage": plain.usage.total_tokens,
        "stream": "".join(each.choices[0].delta.content or "" for each in chunks if each.choices),
        "stream_usage": chunks[-1].usage.total_tokens,
        "arguments": call.function.arguments,
        "streamed_arguments": rebuilt.function.arguments,
        "rate_limit": error_of(),
        "context": error_of(),
        "cut": error_of(stream=True),
        "unknown_model": error_of(model="m2-typo"),
        "wrong_key": error_of(api_key="sk-wrong"),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
