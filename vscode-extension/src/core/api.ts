/** The bodies of the service's HTTP contract, as far as the editor needs them. */

import { type Checked, flag, list, nullable, number, object, oneOf, text } from "./shape";

export const MODEL_QUALITIES = ["fastest", "balanced", "best_quality"] as const;
export type ModelQuality = (typeof MODEL_QUALITIES)[number];

export interface CodeAgentRequest {
  instruction: string;
  context?: string;
  language?: string;
  project_directory?: string;
  thread_id: string;
  model_quality?: ModelQuality;
  /** Tool name, or `*` for every tool, -> whether a human is asked; the service's own rules may be stricter. */
  approvals?: Readonly<Record<string, "ask">>;
}

export interface ResumeRequest {
  thread_id: string;
  tool_call_id: string;
  human_response: string;
}

export interface ContextualChatRequest {
  prompt: string;
  selected_text?: string;
  active_file_content?: string;
  model_quality?: ModelQuality;
}

export const humanInputRequest = object({
  tool_call_id: text,
  question_for_human: text,
  kind: oneOf("question", "approval"),
  options: nullable(list(text)),
  preview: nullable(text),
});
export type HumanInputRequest = Checked<typeof humanInputRequest>;

export const fileChanged = object({
  path: text,
  action: oneOf("created", "modified", "deleted"),
  additions: number,
  deletions: number,
});
export type FileChanged = Checked<typeof fileChanged>;

const agentStatus = oneOf("completed", "requires_human_input", "error");

export const codeAgentResponse = object({
  generated_code: nullable(text),
  explanation: nullable(text),
  agent_status: agentStatus,
  human_input_request: nullable(humanInputRequest),
  model_used: nullable(text),
  error_details: nullable(text),
  error_code: nullable(text),
  thread_id: text,
  run_id: text,
  files_changed: list(fileChanged),
  pending_requests: list(humanInputRequest),
});
export type CodeAgentResponse = Checked<typeof codeAgentResponse>;

export const threadSummary = object({
  thread_id: text,
  title: text,
  project_directory: nullable(text),
  updated_at: text,
  status: oneOf("idle", "running", "requires_human_input", "error"),
});
export type ThreadSummary = Checked<typeof threadSummary>;

export const threadList = object({ threads: list(threadSummary) });

export const threadDetail = object({
  ...threadSummary.fields,
  run_id: nullable(text),
  pending_requests: list(humanInputRequest),
  error_details: nullable(text),
  last_response: nullable(codeAgentResponse),
});
export type ThreadDetail = Checked<typeof threadDetail>;

export const threadDiff = object({ diff: text });

export const historyCheckpoint = object({
  checkpoint_id: text,
  created_at: text,
  messages: number,
  summary: text,
  waiting: flag,
});
export type HistoryCheckpoint = Checked<typeof historyCheckpoint>;

export const threadHistory = object({ checkpoints: list(historyCheckpoint) });

export const keptFile = object({ path: text, reason: text });

export const threadRewound = object({ restored: list(text), kept: list(keptFile), notes: list(text) });
export type ThreadRewound = Checked<typeof threadRewound>;

export const about = object({ name: text, version: text });
export type About = Checked<typeof about>;

export const health = object({ status: oneOf("ok", "degraded"), problems: list(text) });
export type Health = Checked<typeof health>;

export const modelList = object({ data: list(object({ id: text })) });

export const errorAnswer = object({ error: object({ message: text, code: nullable(text) }) });
