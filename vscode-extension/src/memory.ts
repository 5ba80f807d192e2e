import type * as vscode from "vscode";
import type { Destination } from "./core/edits";

const THREADS = "threads";
const DRAFTS = "drafts";
/** Older ones are forgotten. */
const KEPT = 100;

/** What the editor knows of a thread that was started in it. */
export interface RememberedThread {
  readonly instruction: string;
  readonly languageId: string | null;
  /** Where generated code goes; null without an editor. */
  readonly place: Destination | null;
  /** The run whose result the person has been given; null while they wait for one. */
  readonly delivered: string | null;
}

/** Survives a reload of the window: results still find their place, and typed answers are not lost. */
export class Memory {
  constructor(private readonly state: vscode.Memento) {}

  thread(threadId: string): RememberedThread | undefined {
    return this.#read<RememberedThread>(THREADS)[threadId];
  }

  remember(threadId: string, thread: RememberedThread): Thenable<void> {
    return this.#write(THREADS, threadId, thread);
  }

  /** `null`: a result is on its way. */
  async markDelivered(threadId: string, runId: string | null): Promise<void> {
    const thread = this.thread(threadId);
    if (thread) await this.remember(threadId, { ...thread, delivered: runId });
  }

  /** What was typed as an answer and not taken by the service yet. */
  draft(question: string): string | undefined {
    return this.#read<string>(DRAFTS)[question];
  }

  setDraft(question: string, text: string | undefined): Thenable<void> {
    return this.#write(DRAFTS, question, text === "" ? undefined : text);
  }

  #read<T>(name: string): Record<string, T> {
    return this.state.get<Record<string, T>>(name, {});
  }

  #write(name: string, key: string, value: unknown): Thenable<void> {
    const others = Object.entries(this.#read<unknown>(name)).filter(([each]) => each !== key);
    const entries = value === undefined ? others : [...others, [key, value] as const];
    return this.state.update(name, Object.fromEntries(entries.slice(-KEPT)));
  }
}
