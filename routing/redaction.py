"""Texts from providers made safe to show: without keys, control characters or excess length."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "[redacted]"
MAX_MESSAGE = 300
"""Characters of a provider's message that are kept."""

_SHORTEST_SECRET = 4
"""Known secrets below this length are place-holders ("x"); masking them would only garble the text."""

_KEY_SHAPES = re.compile(
    r"""(?ix)
    (?<= \bbearer [ ] ) [^\s"',;]+                              # an Authorization header
  | \b sk [-_] [\w*.-]{4,}                                     # OpenAI and many after it
  | \b (?: pk | rk | gsk | csk | xai | nvapi | tgp | hf | ghp | github_pat | glpat | r8 | fw | pplx )
        [-_] [\w*.-]{12,}                                       # other makers' prefixes
  | \b AIza [\w-]{10,}                                          # Google
  | \b eyJ [\w-]{8,} \. [\w-]+ \. [\w-]*                        # JSON web tokens
  | (?<= [?&]key= ) [^\s&"']+                                   # a key in a query
  | (?<= :// ) [^\s/:@]+ : [^\s/@]+ (?= @ )                     # user and password in an address
    """
)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with each of `secrets`, and whatever looks like a key, replaced by `MASK`."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    return _KEY_SHAPES.sub(MASK, text)


def shows(text: str, secrets: Iterable[str]) -> bool:
    """Whether one of `secrets` stands in the text."""
    return any(len(secret) >= _SHORTEST_SECRET and secret in text for secret in secrets)


def presentable(text: str, secrets: Iterable[str] = ()) -> str:
    """One redacted line of at most `MAX_MESSAGE` characters, without control characters.

    Redaction comes before shortening: a key cut in half would no longer be recognised.
    """
    line = _UNPRINTABLE.sub(" ", redact(text, secrets)).strip()
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
