"""Carrying out a tool call: approval, journal, the act itself, in that order.

An effect on a file is made exactly once although the step around it may run again after a crash: the
journal says what was intended, the file says whether it happened.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

from agent_service.agent.approvals import Verdict, read_answer, stricter
from agent_service.agent.last_look import last_look
from agent_service.agent.refusals import Refusals
from agent_service.agent.seen import CallNotes
from agent_service.agent.stale import stale_file
from checkpoints.events import NewEvent
from checkpoints.journal import EffectJournal, EffectRecord, Intent, content_hash
from checkpoints.runs import Run
from tools.errors import StaleFile, ToolError
from tools.human import HumanRequest
from tools.paths import normalise
from tools.tool import Effect, ExternalEffect, Planned, ToolCall, ToolContext, ToolResult

logger = logging.getLogger(__name__)

OUTCOME_UNKNOWN = (
    "the service stopped while this was being done, so its outcome is unknown. It was not done again; "
    "check before you repeat it."
)


class RefusedByHuman(ToolError):
    """A human said no to what was proposed."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a call came to."""

    result: ToolResult
    effect: Effect | None = None
    """The change it made to a file, if it made one."""
    started_told: bool = False
    """Whether it was told already that the call was started."""


class EffectRunner:
    """Makes the effects of one run, each once."""

    def __init__(
        self,
        run: Run,
        journal: EffectJournal,
        refusals: Refusals,
        ctx: ToolContext,
        notes: CallNotes,
        started: NewEvent,
    ) -> None:
        """`started` is told as soon as an effect is begun: when the human agreed, and before it happens."""
        self._run = run
        self._journal = journal
        self._refusals = refusals
        self._ctx = ctx
        self._notes = notes
        self._started = started

    async def carry_out(self, call: ToolCall, call_id: str, decide: Callable[[str | None], Verdict]) -> Done:
        """Plan, ask if need be, write down, act. Raises ToolError, and lets pauses through.

        `decide` gives the verdict on the call for a path, or for none.
        """
        record = await self._journal.get(self._run.thread_id, call_id)
        if record is not None:
            return await self._after_crash(record, call_id)
        verdict = _unless_denied(call, decide(call.path))
        if call.path is not None and self._notes.knows_of(call.path):
            present = await asyncio.to_thread(self._ctx.files.current, call.path)
            await self._refuse_stale(call, call_id, call.path, present)
        planned = await call.plan(self._ctx)
        if isinstance(planned, Effect):
            await self._refuse_stale(call, call_id, normalise(planned.path), planned.before)
        path = normalise(planned.path) if isinstance(planned, Effect) else call.path
        if path != call.path:  # a tool may come to another file than its arguments name
            verdict = stricter(verdict, _unless_denied(call, decide(path)))
        if verdict.rule == "ask" or call_id in self._refusals.asked or self._refusals.concern(path):
            self._ask_approval(call, call_id, planned)
        # Once begun it is brought to its end, also when the run is cancelled meanwhile.
        return await asyncio.shield(self._commit(planned, call_id, call.tool.name))

    async def _refuse_stale(self, call: ToolCall, call_id: str, path: str, present: bytes | None) -> None:
        """Raises StaleFile when that is not what was seen last at the path."""
        if not self._notes.is_stale(path, present):
            return
        if call_id in self._refusals.asked:  # the question stays open; and a no, with its reason, comes first
            reply = self._ctx.ask(HumanRequest(f"May the agent change {path}?", kind="approval"))
            agreed, feedback = read_answer(reply.text)
            if not agreed:
                raise _refused("this", feedback)
        raise await asyncio.to_thread(stale_file, path, present, call.wanted, self._notes)

    def _ask_approval(self, call: ToolCall, call_id: str, planned: Planned) -> None:
        """Let the human decide on the plan. Raises ToolError on a no, or when the plan has changed since."""
        if isinstance(planned, Effect):
            what, proposal = f"{_verb(planned)} {planned.path}", planned.fingerprint
        else:
            what, proposal = f"use {call.tool.name}", content_hash(planned.preview.encode()) or ""
        earlier = self._refusals.answer_to(call_id, proposal)
        if earlier is not None:
            raise _refused("this very thing before", read_answer(earlier)[1])
        question = f"May the agent {what}?"
        reply = self._ctx.ask(HumanRequest(question, "approval", preview=planned.preview, proposal=proposal))
        agreed, feedback = read_answer(reply.text)
        if not agreed:
            raise _refused("this", feedback)
        if reply.proposal != proposal:
            raise ToolError(
                "the file was changed after the human saw this proposal; read it and propose again"
            )

    async def _commit(self, planned: Planned, call_id: str, name: str) -> Done:
        if isinstance(planned, ExternalEffect):
            intent = Intent(call_id, _dump(ToolResult.error(OUTCOME_UNKNOWN)))
            await self._journal.begin(self._run, intent, [self._started])
            sys.audit("agent_service.effect.intended", call_id)
            await self._journal.confirm(self._run)
            result = await _act(planned, name)
            await self._finish(call_id, result=_dump(result))
            return Done(result, started_told=True)
        if planned.before == planned.after:
            self._notes.saw(normalise(planned.path), planned.after)
            return Done(planned.result)
        intent = Intent(call_id, _dump(planned.result), planned.path, planned.before, planned.after)
        await self._journal.begin(self._run, intent, [self._started])
        sys.audit("agent_service.effect.intended", call_id)
        return await self._write(planned, call_id)

    async def _write(self, effect: Effect, call_id: str) -> Done:
        async def look() -> None:
            # Whoever took the run over may have written this and a human undone it: the file would not tell.
            await self._journal.confirm(self._run)
            self._notes.writes(effect.path, effect.after)

        files = self._ctx.files.observed(self._notes.saw)
        try:
            await asyncio.to_thread(files.commit, effect, last_look(look))
        except StaleFile:
            return await self._give_up(effect.path, call_id, effect.after)
        except ToolError as error:
            return await self._refuse(call_id, error)
        await self._finish(call_id)
        return Done(effect.result, effect, started_told=True)

    async def _after_crash(self, record: EffectRecord, call_id: str) -> Done:
        """The step ran before: give the stored result, or see from the file how far it came."""
        stored = ToolResult(**json.loads(record.result or "{}"))
        if record.path is not None and record.state == "done":
            self._notes.wrote(record.path, record.after_hash)
        if record.path is None or record.state == "void":
            return Done(stored, started_told=True)
        before, after = await self._journal.contents(self._run.thread_id, record)
        effect = Effect(record.path, before, after, stored, preview="")
        if record.state == "done":
            return Done(stored, effect, started_told=True)
        current = content_hash(await asyncio.to_thread(self._ctx.files.current, record.path))
        if current == record.after_hash:
            self._notes.wrote(record.path, record.after_hash)
            await self._finish(call_id)
            return Done(stored, effect, started_told=True)
        if current != record.before_hash:
            return await self._give_up(record.path, call_id)
        return await self._write(effect, call_id)

    async def _give_up(self, path: str, call_id: str, wanted: bytes | None = None) -> Done:
        """The file is somebody else's now: it stays as it is, and the model is shown how that is."""
        text = (wanted or b"").decode("utf-8", "replace")
        try:
            present = await asyncio.to_thread(self._ctx.files.current, path)
            refusal: ToolError = await asyncio.to_thread(stale_file, path, present, text, self._notes)
        except ToolError as unreadable:
            refusal = unreadable
        return await self._refuse(call_id, refusal)

    async def _refuse(self, call_id: str, reason: ToolError) -> Done:
        """What was begun will not happen: kept with the reason, so that no repeat of the step tries again."""
        result = ToolResult.error(str(reason))
        await self._finish(call_id, void=True, result=_dump(result))
        return Done(result, started_told=True)

    async def _finish(self, call_id: str, *, void: bool = False, result: str | None = None) -> None:
        await self._journal.finish(self._run, call_id, state="void" if void else "done", result=result)
        sys.audit("agent_service.effect.done", call_id)


def _unless_denied(call: ToolCall, verdict: Verdict) -> Verdict:
    """The verdict. Raises ToolError if it is that the call must not happen."""
    if verdict.rule == "deny":
        where = "" if verdict.pattern is None else f" for {verdict.pattern}"
        raise ToolError(f"{call.tool.name} is switched off here{where}; do without it")
    return verdict


def _verb(effect: Effect) -> str:
    if effect.before is None:
        return "create"
    return "delete" if effect.after is None else "change"


def _refused(what: str, feedback: str) -> ToolError:
    if feedback:
        return RefusedByHuman(
            f"the human refused {what} and said: {feedback}\nDo that instead of trying again."
        )
    return RefusedByHuman(f"the human refused {what}; do not try the same again")


async def _act(planned: ExternalEffect, name: str) -> ToolResult:
    """What came of the act; a failure is known, too, and need not be called unknown after a crash."""
    try:
        return await planned.act()
    except ToolError as error:
        return ToolResult.error(str(error))
    except Exception as error:  # a user's own tool may raise anything
        logger.exception("tool %s failed", name)
        return ToolResult.error(f"{name} failed ({type(error).__name__}); try another way")


def _dump(result: ToolResult) -> str:
    return json.dumps({"content": result.content, "ok": result.ok, "summary": result.summary})
