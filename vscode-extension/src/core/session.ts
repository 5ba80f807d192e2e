/** What a person sees of a thread: a value that each event makes into the next one. */

import type { CodeAgentResponse, HumanInputRequest } from "./api";
import type { AgentEvent } from "./events";

export type Phase = "running" | "waiting" | "done" | "failed" | "cancelled";

export interface Session {
  readonly threadId: string;
  readonly phase: Phase;
  /** What goes on, in a few words. */
  readonly activity: string;
  /** What the model says at the moment. */
  readonly text: string;
  /** Open questions, the oldest first. */
  readonly questions: readonly HumanInputRequest[];
  /** Paths that this run changed, relative to the project. */
  readonly files: readonly string[];
  readonly response: CodeAgentResponse | null;
}

export const newSession = (threadId: string): Session => ({
  threadId,
  phase: "running",
  activity: "Starting",
  text: "",
  questions: [],
  files: [],
  response: null,
});

/** The session after the event. */
export function advance(session: Session, event: AgentEvent): Session {
  switch (event.kind) {
    case "run.started":
      return { ...session, phase: "running", activity: "Thinking", text: "", response: null };
    case "token":
      return { ...session, activity: "Writing", text: session.text + event.text };
    case "message":
      return { ...session, text: "" };
    case "tool.started":
      return { ...session, activity: event.summary };
    case "tool.finished": {
      const paths = event.files_changed.map((file) => file.path);
      return { ...session, activity: "Thinking", files: [...new Set([...session.files, ...paths])] };
    }
    case "question.opened":
      return {
        ...session,
        questions: [...without(session, event.human_input_request.tool_call_id), event.human_input_request],
      };
    case "question.answered":
    case "question.closed":
      return { ...session, questions: without(session, event.tool_call_id) };
    case "model.switched":
      return { ...session, activity: `Going on with ${event.to}` };
    case "error":
      return event.code === "cancelled"
        ? { ...session, phase: "cancelled" }
        : { ...session, activity: event.message };
    case "run.finished":
      return finished(session, event.response);
    case "workspace.changed":
    case "thread.rewound":
      return session;
  }
}

function finished(session: Session, response: CodeAgentResponse): Session {
  const phase = {
    completed: "done",
    requires_human_input: "waiting",
    error: session.phase === "cancelled" ? "cancelled" : "failed",
  } as const;
  return {
    ...session,
    phase: phase[response.agent_status],
    text: "",
    questions: response.pending_requests,
    response,
  };
}

function without(session: Session, callId: string): HumanInputRequest[] {
  return session.questions.filter((question) => question.tool_call_id !== callId);
}
