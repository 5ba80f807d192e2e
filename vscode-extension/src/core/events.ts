/** What a run tells while it goes on. */

import { codeAgentResponse, fileChanged, humanInputRequest } from "./api";
import { type Checked, flag, list, nullable, number, object, oneOf, parse, text } from "./shape";

const common = { seq: number, thread_id: text, run_id: text };

/** Kind -> the event's fields. */
export const EVENTS = {
  "run.started": object({ ...common, instruction: text }),
  token: object({ ...common, text }),
  message: object({ ...common, role: oneOf("assistant", "user"), text, model: nullable(text) }),
  "tool.started": object({ ...common, tool_call_id: text, name: text, summary: text }),
  "tool.finished": object({
    ...common,
    tool_call_id: text,
    name: text,
    ok: flag,
    summary: text,
    files_changed: list(fileChanged),
  }),
  "question.opened": object({ ...common, human_input_request: humanInputRequest }),
  "question.answered": object({ ...common, tool_call_id: text, answer: text, by: text }),
  "question.closed": object({
    ...common,
    tool_call_id: text,
    status: oneOf("cancelled", "expired"),
    by: text,
  }),
  "model.switched": object({ ...common, from: text, to: text, reason: text }),
  "workspace.changed": object({ ...common, paths: list(text) }),
  "thread.rewound": object({ ...common, checkpoint_id: text, restored: list(text) }),
  error: object({ ...common, message: text, code: text }),
  "run.finished": object({ ...common, response: codeAgentResponse }),
} as const;

export type EventKind = keyof typeof EVENTS;

/** One of the events; `kind` tells which. */
export type AgentEvent = { [K in EventKind]: { kind: K } & Checked<(typeof EVENTS)[K]> }[EventKind];

export type EventOf<K extends EventKind> = Extract<AgentEvent, { kind: K }>;

/** The event in a stream's `data`; undefined for a kind of a later version. Throws a Fault for a broken one. */
export function readEvent(kind: string, data: string): AgentEvent | undefined {
  if (!isKind(kind)) return undefined;
  const fields = parse<object>(data, EVENTS[kind], kind);
  return { kind, ...fields } as AgentEvent;
}

function isKind(kind: string): kind is EventKind {
  return Object.hasOwn(EVENTS, kind);
}
