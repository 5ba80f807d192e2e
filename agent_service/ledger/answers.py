"""Answers that are given again: to a request that can only have one, within the time the operator allows."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.exc import SQLAlchemyError

from agent_service.sections import CacheSettings
from checkpoints.errors import DatabaseUnusable
from checkpoints.response_cache import ResponseCache
from routing.config import DEFAULT_ACCOUNT
from routing.types import ChatCompletion, ChatRequest, RouteDecision

logger = logging.getLogger(__name__)

LARGEST = 1 << 20
"""Bytes of an answer that is kept."""
_VARYING = ("tools", "functions", "tool_choice", "function_call", "web_search_options", "audio", "modalities")
"""Fields of requests whose answer may be an action, which is wrong to repeat unasked; or news of the web, or
sound, which come out differently each time."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer from before, and who gave it."""

    data: dict[str, Any]
    decision: RouteDecision
    address: str | None
    """Where it was given; None = that was not kept."""


class AnswerCache:
    """Each principal's own answers; off unless the operator turns it on."""

    def __init__(self, settings: CacheSettings, store: ResponseCache) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self._store = store

    def key(self, request: ChatRequest) -> str | None:
        """What the answer is kept under; None = it is not to be kept: it may come out differently."""
        body = request.body
        temperature = body.get("temperature")
        if not self.settings.enabled or type(temperature) not in (int, float) or temperature != 0:
            return None
        if any(body.get(name) for name in _VARYING) or body.get("n") not in (None, 1):
            return None
        wish = [request.model, request.provider, request.quality, body]
        try:
            return hashlib.sha256(orjson.dumps(wish, option=orjson.OPT_SORT_KEYS)).hexdigest()
        except orjson.JSONEncodeError:  # numbers beyond 64 bits, and other curiosities
            return None

    async def get(self, principal: str, key: str) -> KeptAnswer | None:
        """The answer, if it is not too old."""
        try:
            found = await self._store.get(principal, key)
        except SQLAlchemyError as error:
            logger.error("kept answers could not be looked at: %s", error)
            return None
        if found is None:
            return None
        kept = orjson.loads(found)
        account = kept.get("account", DEFAULT_ACCOUNT)  # an answer may have been kept by an older version
        dropped = tuple(kept.get("dropped", ()))
        decision = RouteDecision(kept["provider"], kept["model"], dropped=dropped, account=account)
        return KeptAnswer(kept["data"], decision, kept.get("address"))

    async def put(self, principal: str, key: str, answer: ChatCompletion, address: str) -> None:
        """Keep a whole answer that was given at that address; one that was cut off by a limit is none."""
        if any(choice.get("finish_reason") != "stop" for choice in answer.data["choices"]):
            return
        decision = answer.decision
        kept = {
            "provider": decision.provider,
            "model": decision.model,
            "account": decision.account,
            "address": address,
            "dropped": decision.dropped,
            "data": answer.data,
        }
        if len(written := orjson.dumps(kept)) > LARGEST:
            return
        try:
            await self._store.put(principal, key, written, self.settings.ttl_seconds)
        except (SQLAlchemyError, DatabaseUnusable) as error:  # the answer is paid for: it is not to be lost
            logger.error("an answer could not be kept: %s", error)
