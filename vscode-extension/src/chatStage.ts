import type * as vscode from "vscode";
import { fenced } from "./answers";
import type { HumanInputRequest } from "./core/api";
import { withoutImages } from "./core/markdown";
import type { Session } from "./core/session";
import type { Stage } from "./runs";

/** Kept with each answer of the chat: the agent's thread, and the question that it ended with. */
export interface Trace {
  readonly threadId: string;
  readonly callId: string | null;
}

/** Shows a run in the chat. */
export class ChatStage implements Stage {
  #activity = "";
  #callId: string | null = null;

  constructor(
    private readonly threadId: string,
    private readonly stream: vscode.ChatResponseStream,
    readonly signal: AbortSignal,
    private readonly languageId: string,
  ) {}

  get trace(): Trace {
    return { threadId: this.threadId, callId: this.#callId };
  }

  show = (session: Session): void => {
    if (session.activity !== this.#activity) this.stream.progress((this.#activity = session.activity));
    if (session.response) this.#tellEnd(session);
  };

  /** All text in one piece, and the buttons last: what stands before later text the chat folds away. */
  #tellEnd({ response, questions }: Session): void {
    const [question] = questions;
    const parts = response ? [response.explanation && withoutImages(response.explanation)] : [];
    if (response?.generated_code) parts.push(fenced(response.generated_code, this.languageId));
    if (response?.error_details) parts.push(`**${response.error_details}**`);
    if (question) parts.push(asText(question));
    this.stream.markdown(`${parts.filter(Boolean).join("\n\n")}\n\n`);
    if (response && response.files_changed.length > 0)
      this.#button("openhands.openDiff", "Open Changes", { thread_id: this.threadId });
    if (question) this.#offerAnswers(question);
    this.#callId = question?.tool_call_id ?? null;
  }

  /** The run goes on where the person answers. */
  #offerAnswers({ kind, options, tool_call_id }: HumanInputRequest): void {
    const button = (title: string, answer?: string): void =>
      this.#button("openhands.answerQuestion", title, { thread_id: this.threadId }, tool_call_id, answer);
    if (kind === "approval") {
      button("Allow", "yes");
      button("Refuse", "no");
      button("Open Change");
      return;
    }
    for (const option of options ?? []) button(option, option);
    button(options?.length ? "Other..." : "Answer");
  }

  #button(command: string, title: string, ...args: unknown[]): void {
    this.stream.button({ command, title, arguments: args });
  }
}

function asText({ question_for_human: asked, preview }: HumanInputRequest): string {
  const shown = preview ? `\n\n${fenced(preview, "diff")}` : "";
  return `**The agent asks:** ${withoutImages(asked)}${shown}\n\n*Choose, or type your answer below.*`;
}
