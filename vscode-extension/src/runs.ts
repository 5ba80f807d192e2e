import { randomUUID } from "node:crypto";
import * as vscode from "vscode";
import type { Attention } from "./attention";
import type { ServiceConnection } from "./connection";
import type { CodeAgentRequest } from "./core/api";
import { type OpenQuestion, questionKey } from "./core/board";
import type { ServiceClient } from "./core/client";
import type { AgentEvent } from "./core/events";
import { hasCode } from "./core/faults";
import { followRun } from "./core/follow";
import { advance, newSession, type Session } from "./core/session";
import { shortened, unlinked } from "./core/wording";
import type { Delivery } from "./delivery";
import type { Memory, RememberedThread } from "./memory";
import type { Notices } from "./notices";
import { inProgress } from "./progress";

/** Shows a run in place of the notification, as the editor's chat does; no box opens by itself then. */
export interface Stage {
  readonly show: (session: Session) => void;
  /** Aborted when the person stops the run there. */
  readonly signal: AbortSignal;
}

type Begin = (client: ServiceClient, signal: AbortSignal) => AsyncGenerator<AgentEvent>;

interface Carried {
  readonly threadId: string;
  readonly begin: Begin;
  /** Called when the service has the request. */
  readonly taken?: () => Thenable<void>;
  readonly stage?: Stage | undefined;
}

/** A question came up in a run that is followed here. */
export interface Asked {
  readonly question: OpenQuestion;
  /** The person did nothing else meanwhile. */
  readonly waitedFor: boolean;
  /** A stage shows it already. */
  readonly staged: boolean;
}

/** The runs that this window began, each followed to its end under one progress notification, or on a stage. */
export class Runs implements vscode.Disposable {
  readonly #followed = new Map<string, Session>();
  readonly #asked = new vscode.EventEmitter<Asked>();
  readonly #advanced = new vscode.EventEmitter<void>();
  readonly #changed = new vscode.EventEmitter<void>();
  readonly onAsked = this.#asked.event;
  /** A run does something else now. */
  readonly onAdvanced = this.#advanced.event;
  /** A run began or ended. */
  readonly onChanged = this.#changed.event;

  constructor(
    private readonly connection: ServiceConnection,
    private readonly memory: Memory,
    private readonly delivery: Delivery,
    private readonly notices: Notices,
    private readonly attention: Attention,
  ) {}

  isFollowed(threadId: string): boolean {
    return this.#followed.has(threadId);
  }

  /** What a run that is followed here does at the moment. */
  activity(threadId: string): string | undefined {
    return this.#followed.get(threadId)?.activity;
  }

  /** Give an instruction, and see to whatever comes of it. Throws what goes wrong only if there is a stage. */
  async invoke(
    request: CodeAgentRequest,
    thread: Omit<RememberedThread, "delivered">,
    stage?: Stage,
  ): Promise<void> {
    await this.memory.remember(request.thread_id, { ...thread, delivered: null });
    const key = randomUUID();
    const begin: Begin = (client, signal) => client.invoke(request, key, signal);
    await this.#guarded(() => this.#carry({ threadId: request.thread_id, begin, stage }), stage);
  }

  /**
   * Answer a question, and see to whatever comes of it. What was typed is kept until the service has it.
   * Throws what goes wrong only if there is a stage.
   */
  async answer(question: OpenQuestion, text: string, stage?: Stage): Promise<void> {
    const { threadId, request } = question;
    const body = { thread_id: threadId, tool_call_id: request.tool_call_id, human_response: text };
    const key = randomUUID();
    const draft = questionKey(question);
    await this.memory.setDraft(draft, text);
    await this.memory.markDelivered(threadId, null);
    const taken = (): Thenable<void> => this.memory.setDraft(draft, undefined);
    const begin: Begin = (client, signal) => client.resume(body, key, signal);
    const carry = async (): Promise<void> => {
      try {
        await this.#carry({ threadId, begin, taken, stage });
      } catch (error) {
        if (stage || !this.#answeredOtherwise(question, error)) throw error;
      }
    };
    await this.#guarded(carry, stage);
  }

  /** Stop the run under way, or withdraw the open questions. */
  async cancel(threadId: string): Promise<void> {
    const thread = await (await this.connection.client()).cancel(threadId);
    await this.memory.markDelivered(threadId, thread.run_id);
    this.#changed.fire();
  }

  dispose(): void {
    this.#asked.dispose();
    this.#advanced.dispose();
    this.#changed.dispose();
  }

  async #guarded(carry: () => Promise<void>, stage?: Stage): Promise<void> {
    await (stage ? carry() : this.notices.guard(carry)());
  }

  async #carry(run: Carried): Promise<void> {
    const idle = this.attention.watch();
    try {
      const session = await this.#withProgress(run);
      if (session) await this.#settle(session, idle(), run.stage !== undefined);
    } finally {
      this.#followed.delete(run.threadId);
      this.#changed.fire();
    }
  }

  /** Whether the service refused an answer in a way that the person can see to; they are told then. */
  #answeredOtherwise(question: OpenQuestion, error: unknown): boolean {
    if (hasCode(error, "already_answered", "not_waiting")) {
      void vscode.window.showInformationMessage("This question was answered elsewhere in the meantime.");
      return true;
    }
    if (!hasCode(error, "answer_unclear")) return false;
    void vscode.window.showWarningMessage(error.message);
    this.#asked.fire({ question, waitedFor: true, staged: false });
    return true;
  }

  /** Undefined when the person cancelled. */
  async #withProgress(run: Carried): Promise<Session | undefined> {
    const leave = new AbortController();
    const cancelled = new AbortController();
    const cancel = (): void => {
      cancelled.abort();
      this.notices.inBackground(this.#stop(run.threadId, leave));
    };
    const follow = (show?: (message: string) => void): Promise<Session> =>
      this.#follow(run, (message) => show?.(shortened(message)), leave.signal);
    run.stage?.signal.addEventListener("abort", cancel, { once: true });
    try {
      const session = await (run.stage ? follow() : inProgress("OpenHands agent", cancel, follow));
      return cancelled.signal.aborted ? undefined : session;
    } catch (error) {
      if (cancelled.signal.aborted) return undefined;
      throw error;
    } finally {
      run.stage?.signal.removeEventListener("abort", cancel);
    }
  }

  async #follow(run: Carried, show: (message: string) => void, signal: AbortSignal): Promise<Session> {
    const client = await this.connection.client();
    const onReconnect = (): void => show("The connection broke off; waiting for the service");
    let session = newSession(run.threadId);
    this.#enter(session, show);
    for await (const event of followRun(client, () => run.begin(client, signal), { signal, onReconnect })) {
      if (event.kind === "run.started") {
        await run.taken?.();
        this.#changed.fire();
      }
      const before = session;
      session = advance(session, event);
      if (before.activity !== session.activity) this.#enter(session, show);
      run.stage?.show(session);
    }
    return session;
  }

  #enter(session: Session, show: (message: string) => void): void {
    this.#followed.set(session.threadId, session);
    show(session.activity);
    this.#advanced.fire();
  }

  async #settle(session: Session, waitedFor: boolean, staged: boolean): Promise<void> {
    const [request] = session.questions;
    if (session.phase === "waiting" && request) {
      this.#asked.fire({ question: { threadId: session.threadId, request }, waitedFor, staged });
    } else if (session.phase === "done" && session.response) {
      await this.delivery.deliver(session.response, !staged);
    } else if (session.phase === "failed" && session.response) {
      await this.memory.markDelivered(session.threadId, session.response.run_id);
      if (staged) return;
      this.#tellFailure(session.threadId, session.response.error_details ?? "The agent could not finish.");
    }
  }

  #tellFailure(threadId: string, why: string): void {
    const message = `The agent stopped: ${unlinked(why)}`;
    void vscode.window.showErrorMessage(message, "Continue...", "Show Log").then((choice) => {
      if (choice === "Continue...") void vscode.commands.executeCommand("openhands.continueThread", threadId);
      else if (choice === "Show Log") void vscode.commands.executeCommand("openhands.showLog");
    });
  }

  async #stop(threadId: string, leave: AbortController): Promise<void> {
    try {
      await this.cancel(threadId);
    } catch (error) {
      // The request had not arrived yet: leaving it is enough.
      if (!hasCode(error, "thread_not_found")) throw error;
    } finally {
      leave.abort();
    }
  }
}
