"""What a request asks of a model, read off its body. Nothing is tokenised: sizes come from bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTES_PER_TOKEN = 3.0
"""UTF-8 bytes per token for a cautious estimate. Tokenisers in use give 4 to 5 for English prose, 3 to 4
for code, about 3 for Chinese; only dense data (base64, hex) has fewer."""
MOST_BYTES_PER_TOKEN = 8.0
"""No ordinary text has more: what does not fit by this measure does not fit."""
IMAGE_TOKENS = 1500
"""An image, audio clip or file counts as this many, whatever its bytes."""

_MEDIA = frozenset({"image_url", "input_audio", "file"})
_UNREAD = "extra_content"
"""Signatures are read by the provider, not by the model."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model."""

    tools: bool = False
    vision: bool = False
    json_schema: bool = False
    prompt_tokens: int = 0
    """Cautious estimate: hardly ever more."""
    least_prompt_tokens: int = 0
    """It is not less than this."""
    output_tokens: int | None = None
    """The answer length that the request asks room for; None = none named."""
    prefers_tools: bool = False
    """Whether a model that calls tools is better, although the request has none."""

    @property
    def size(self) -> int:
        """Tokens of prompt and answer together: hardly ever more."""
        return self.prompt_tokens + (self.output_tokens or 0)

    @property
    def least_size(self) -> int:
        """It is not less than this."""
        return self.least_prompt_tokens + (self.output_tokens or 0)

    @classmethod
    def of(cls, body: Mapping[str, Any], *, prefers_tools: bool = False) -> Needs:
        """The needs of an OpenAI chat completion body."""
        size, media, images = _measure(body)
        form = body.get("response_format")
        limits = [body.get("max_completion_tokens"), body.get("max_tokens")]
        return cls(
            tools=bool(body.get("tools") or body.get("functions")),
            vision=images > 0,
            json_schema=isinstance(form, Mapping) and form.get("type") == "json_schema",
            prompt_tokens=_tokens(size, media, BYTES_PER_TOKEN),
            least_prompt_tokens=_tokens(size, 0, MOST_BYTES_PER_TOKEN),
            output_tokens=max((each for each in limits if type(each) is int and each > 0), default=None),
            prefers_tools=prefers_tools,
        )


def _tokens(size: int, media: int, ratio: float) -> int:
    return round(size / ratio) + media * IMAGE_TOKENS


def _measure(body: Mapping[str, Any]) -> tuple[int, int, int]:
    """Bytes of text in what a model gets to read, media parts, and how many of those are images."""
    size = media = images = 0
    rest: list[Any] = [body.get(key) for key in ("messages", "tools", "functions", "response_format")]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            size += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, Mapping):
            kind = value.get("type")
            if isinstance(kind, str) and kind in _MEDIA:
                media += 1
                images += kind == "image_url"
            else:
                read = [key for key in value if key != _UNREAD]
                size += sum(map(len, read))
                rest.extend(value[key] for key in read)
        elif isinstance(value, list | tuple):
            rest.extend(value)
        elif value is not None:
            size += len(str(value)) if not isinstance(value, int) else 4
    return size, media, images
