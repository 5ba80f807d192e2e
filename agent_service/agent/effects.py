"""Carrying out a tool call: approval, journal, the act itself, in that order.

An effect on a file is made exactly once although the step around it may run again after a crash: the
journal says what was intended, the file says whether it happened.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import NoReturn

from agent_service.agent.approvals import Rule, read_answer
from checkpoints.journal import EffectJournal, EffectRecord, content_hash
from checkpoints.runs import Run
from tools.errors import StaleFile, ToolError
from tools.human import HumanRequest
from tools.tool import Effect, ExternalEffect, Planned, ToolCall, ToolContext, ToolResult

OUTCOME_UNKNOWN = (
    "the service stopped while this was being done, so its outcome is unknown. It was not done again; "
    "check before you repeat it."
)


@dataclass(frozen=True, slots=True)
class Done:
    """What a call came to."""

    result: ToolResult
    effect: Effect | None = None
    """The change it made to a file, if it made one just now."""


class EffectRunner:
    """Makes the effects of one run, each once."""

    def __init__(self, run: Run, journal: EffectJournal, ctx: ToolContext) -> None:
        self._run = run
        self._journal = journal
        self._ctx = ctx

    async def carry_out(self, call: ToolCall, call_id: str, rule: Rule) -> Done:
        """Plan, ask if the rule says so, write down, act. Raises ToolError, and lets pauses through."""
        record = await self._journal.get(self._run.thread_id, call_id)
        if record is not None and record.state != "void":
            return await self._after_crash(record, call_id)
        if rule == "deny":
            raise ToolError(f"{call.tool.name} is switched off here; do without it")
        planned = await call.plan(self._ctx)
        if rule == "ask":
            _ask_approval(call, planned, self._ctx)
        # Once begun it is brought to its end, also when the run is cancelled meanwhile.
        return await asyncio.shield(self._commit(planned, call_id))

    async def _commit(self, planned: Planned, call_id: str) -> Done:
        if isinstance(planned, ExternalEffect):
            await self._journal.begin(self._run, call_id, _dump(ToolResult.error(OUTCOME_UNKNOWN)))
            result = await _act(planned)
            await self._finish(call_id, result=_dump(result))
            return Done(result)
        if planned.before == planned.after:
            return Done(planned.result)
        await self._journal.begin(
            self._run, call_id, _dump(planned.result), planned.path, planned.before, planned.after
        )
        return await self._write(planned, call_id)

    async def _write(self, effect: Effect, call_id: str) -> Done:
        try:
            await asyncio.to_thread(self._ctx.files.commit, effect)
        except StaleFile:
            await self._give_up(effect.path, call_id)
        except ToolError:
            await self._finish(call_id, void=True)
            raise
        await self._finish(call_id)
        return Done(effect.result, effect)

    async def _after_crash(self, record: EffectRecord, call_id: str) -> Done:
        """The step ran before: give the stored result, or see from the file how far it came."""
        stored = ToolResult(**json.loads(record.result or "{}"))
        if record.state == "done" or record.path is None:
            return Done(stored)
        current = content_hash(await asyncio.to_thread(self._ctx.files.current, record.path))
        if current == record.after_hash:
            await self._finish(call_id)
            return Done(stored)
        if current != record.before_hash:
            await self._give_up(record.path, call_id)
        before, after = await self._journal.contents(self._run.thread_id, record)
        return await self._write(Effect(record.path, before, after, stored, preview=""), call_id)

    async def _give_up(self, path: str, call_id: str) -> NoReturn:
        await self._finish(call_id, void=True)
        raise StaleFile(f"{path} was changed by somebody else meanwhile and was left as it is; read it again")

    async def _finish(self, call_id: str, *, void: bool = False, result: str | None = None) -> None:
        await self._journal.finish(
            self._run.thread_id, call_id, state="void" if void else "done", result=result
        )


def _ask_approval(call: ToolCall, planned: Planned, ctx: ToolContext) -> None:
    """Let the human decide on the plan. Raises ToolError on a no, or when the plan has changed since."""
    if isinstance(planned, Effect):
        what, proposal = f"{call.tool.name} on {planned.path}", planned.fingerprint
    else:
        what, proposal = call.tool.name, content_hash(planned.preview.encode()) or ""
    request = HumanRequest(f"Allow {what}?", kind="approval", preview=planned.preview, proposal=proposal)
    reply = ctx.ask(request)
    agreed, feedback = read_answer(reply.text)
    if not agreed:
        if feedback:
            raise ToolError(f"the human refused this and said: {feedback}\nDo that instead of trying again.")
        raise ToolError("the human refused this; do not try the same again")
    if reply.proposal != proposal:
        raise ToolError("the file was changed after the human saw this proposal; read it and propose again")


async def _act(planned: ExternalEffect) -> ToolResult:
    try:
        return await planned.act()
    except ToolError as error:
        return ToolResult.error(str(error))


def _dump(result: ToolResult) -> str:
    return json.dumps({"content": result.content, "ok": result.ok, "summary": result.summary})
