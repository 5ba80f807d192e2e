/** All threads of the person at the service, and what became different since the last look. */

import type { HumanInputRequest, ThreadSummary } from "./api";
import type { ServiceClient } from "./client";
import { hasCode } from "./faults";

const SHOWN = 50;
const BUSY_MS = 1_500;
const WAITING_MS = 2_500;
const QUIET_MS = 10_000;

export type Place = "running" | "waiting" | "done";

export interface BoardThread extends ThreadSummary {
  readonly place: Place;
  /** Open questions, the oldest first. */
  readonly questions: readonly HumanInputRequest[];
}

export interface OpenQuestion {
  readonly threadId: string;
  readonly request: HumanInputRequest;
}

export interface Changes {
  /** Questions that were not there before. */
  readonly opened: readonly OpenQuestion[];
  /** Questions that are open no longer, whoever answered. */
  readonly closed: readonly OpenQuestion[];
}

/** A question's name over all threads. */
export const questionKey = (question: OpenQuestion): string =>
  `${question.threadId}/${question.request.tool_call_id}`;

export class Board {
  #threads: readonly BoardThread[] = [];

  /** The latest first. */
  get threads(): readonly BoardThread[] {
    return this.#threads;
  }

  get questions(): readonly OpenQuestion[] {
    return questionsOf(this.#threads);
  }

  thread(threadId: string): BoardThread | undefined {
    return this.#threads.find((each) => each.thread_id === threadId);
  }

  /** Look anew. Throws a Fault, and then nothing is different. */
  async refresh(client: ServiceClient, signal?: AbortSignal): Promise<Changes> {
    const listed = await client.threads(SHOWN, signal);
    const fresh = await Promise.all(listed.map((summary) => this.#detailed(client, summary, signal)));
    return this.#replace(fresh);
  }

  /** Forget everything, as for another service. */
  clear(): Changes {
    return this.#replace([]);
  }

  /** How long until the next look is due. */
  get pauseMs(): number {
    if (this.#threads.some((each) => each.place === "running")) return BUSY_MS;
    return this.questions.length > 0 ? WAITING_MS : QUIET_MS;
  }

  #replace(fresh: readonly BoardThread[]): Changes {
    const [before, after] = [this.questions, questionsOf(fresh)];
    this.#threads = fresh;
    return { opened: difference(after, before), closed: difference(before, after) };
  }

  /** Only a thread that waits, and not as it did before, is worth a request of its own. */
  async #detailed(client: ServiceClient, summary: ThreadSummary, signal?: AbortSignal): Promise<BoardThread> {
    const place = placeOf(summary.status);
    if (place !== "waiting") return { ...summary, place, questions: [] };
    const known = this.thread(summary.thread_id);
    if (known?.place === "waiting" && known.updated_at === summary.updated_at)
      return { ...known, ...summary };
    try {
      const detail = await client.thread(summary.thread_id, signal);
      return { ...summary, place: placeOf(detail.status), questions: detail.pending_requests };
    } catch (error) {
      if (hasCode(error, "thread_not_found")) return { ...summary, place: "done", questions: [] };
      throw error;
    }
  }
}

function placeOf(status: ThreadSummary["status"]): Place {
  return status === "running" ? "running" : status === "requires_human_input" ? "waiting" : "done";
}

function questionsOf(threads: readonly BoardThread[]): OpenQuestion[] {
  return threads.flatMap((each) => each.questions.map((request) => ({ threadId: each.thread_id, request })));
}

function difference(these: readonly OpenQuestion[], those: readonly OpenQuestion[]): OpenQuestion[] {
  const known = new Set(those.map(questionKey));
  return these.filter((each) => !known.has(questionKey(each)));
}
