"""Characters that some file systems do not see: two names that differ in them alone may be one file.

HFS+ ignores a few of them, and Linux's case-insensitive folders (ext4, f2fs) all: the Unicode property
Default_Ignorable_Code_Point (DerivedCoreProperties.txt of Unicode 16).
"""

from __future__ import annotations

import re

_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def without_ignorable(name: str) -> str:
    """The name as such a file system reads it."""
    return _IGNORABLE.sub("", name)
