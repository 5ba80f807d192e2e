"""Errors about what was asked for, wherever that is found out.

InvalidRequest(param)  -> mend the field
  UnclearAnswer        -> answer yes or no
"""

from __future__ import annotations


class InvalidRequest(Exception):
    """The request does not fit the thread or the configuration; `param` names the field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class UnclearAnswer(InvalidRequest):
    """The answer to an approval is neither a yes nor a no. The question stays open."""
