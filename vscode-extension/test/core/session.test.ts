import { expect, test } from "vitest";
import type { CodeAgentResponse, HumanInputRequest } from "../../src/core/api";
import { type AgentEvent, readEvent } from "../../src/core/events";
import { Fault } from "../../src/core/faults";
import { advance, newSession, type Session } from "../../src/core/session";
import { finished } from "./server";

const at = { seq: 1, thread_id: "t", run_id: "r" };
const question: HumanInputRequest = {
  tool_call_id: "c",
  question_for_human: "Why?",
  kind: "question",
  options: null,
  preview: null,
};
const response = (fields: Partial<CodeAgentResponse>): CodeAgentResponse => ({
  generated_code: null,
  explanation: null,
  agent_status: "completed",
  human_input_request: null,
  model_used: null,
  error_details: null,
  error_code: null,
  thread_id: "t",
  run_id: "r",
  files_changed: [],
  pending_requests: [],
  ...fields,
});
const after = (...events: AgentEvent[]): Session => events.reduce(advance, newSession("t"));

test("what the model says grows until it is said", () => {
  const said: AgentEvent[] = [
    { ...at, kind: "token", text: "Hel" },
    { ...at, kind: "token", text: "lo" },
  ];
  expect(after(...said)).toMatchObject({ text: "Hello", activity: "Writing" });
  expect(after(...said, { ...at, kind: "message", role: "assistant", text: "Hello", model: null }).text).toBe(
    "",
  );
});

test("files are named once each", () => {
  const change = { action: "modified", additions: 1, deletions: 1 } as const;
  const done = {
    ...at,
    kind: "tool.finished",
    tool_call_id: "c",
    name: "write_file",
    ok: true,
    summary: "+1 -1",
  } as const;
  const session = after(
    { ...done, files_changed: [{ path: "a", ...change }] },
    {
      ...done,
      files_changed: [
        { path: "a", ...change },
        { path: "b", ...change },
      ],
    },
  );
  expect(session.files).toEqual(["a", "b"]);
});

test("a question is open from its opening to its answer or its withdrawal", () => {
  const opened: AgentEvent = { ...at, kind: "question.opened", human_input_request: question };
  expect(after(opened, opened).questions).toEqual([question]);
  expect(
    after(opened, { ...at, kind: "question.answered", tool_call_id: "c", answer: "so", by: "me" }).questions,
  ).toEqual([]);
  expect(
    after(opened, { ...at, kind: "question.closed", tool_call_id: "c", status: "cancelled", by: "me" })
      .questions,
  ).toEqual([]);
});

test.each([
  [response({ agent_status: "completed" }), "done"],
  [response({ agent_status: "requires_human_input", pending_requests: [question] }), "waiting"],
  [response({ agent_status: "error", error_details: "No." }), "failed"],
] as const)("a run ends as its response says", (last, phase) => {
  expect(after({ ...at, kind: "run.finished", response: last })).toMatchObject({
    phase,
    response: last,
    questions: last.pending_requests,
  });
});

test("a cancelled run is not a failed one", () => {
  const cancelled: AgentEvent = { ...at, kind: "error", message: "Cancelled.", code: "cancelled" };
  const last: AgentEvent = { ...at, kind: "run.finished", response: response({ agent_status: "error" }) };
  expect(after(cancelled, last).phase).toBe("cancelled");
});

test("events of later versions are passed over, broken ones are told", () => {
  expect(readEvent("thread.painted", "{}")).toBeUndefined();
  expect(readEvent("toString", "{}")).toBeUndefined();
  expect(readEvent("run.finished", JSON.stringify(finished))?.kind).toBe("run.finished");
  expect(() => readEvent("token", '{"seq": 1}')).toThrow(Fault);
});
