import * as vscode from "vscode";
import type { ServiceConnection } from "./connection";
import type { Board } from "./core/board";
import { shortened, unlinked } from "./core/wording";
import type { Delivery } from "./delivery";
import type { Memory } from "./memory";
import type { Notices } from "./notices";
import type { Runs } from "./runs";

/** Results that came while nobody followed the run, as over a reload of the window: told once, shown on request. */
export class Arrivals {
  readonly #told = new Set<string>();

  constructor(
    private readonly connection: ServiceConnection,
    private readonly board: Board,
    private readonly runs: Runs,
    private readonly memory: Memory,
    private readonly delivery: Delivery,
    private readonly notices: Notices,
  ) {}

  /** After each look at the threads. */
  async announce(): Promise<void> {
    for (const each of this.board.threads) if (each.place !== "done") this.#told.delete(each.thread_id);
    const arrived = this.board.threads.filter(
      ({ thread_id: id, place }) =>
        place === "done" &&
        !this.runs.isFollowed(id) &&
        !this.#told.has(id) &&
        this.memory.thread(id)?.delivered === null,
    );
    for (const { thread_id: threadId, title } of arrived) {
      this.#told.add(threadId);
      await this.#tell(threadId, title);
    }
  }

  async #tell(threadId: string, title: string): Promise<void> {
    const thread = await (await this.connection.client()).thread(threadId);
    const { error_details: error, last_response: last, run_id: runId } = thread;
    if (error && last?.error_code === "cancelled") return this.memory.markDelivered(threadId, runId);
    const name = `"${shortened(title, 60)}"`;
    const message = error
      ? `The agent stopped at ${name}: ${unlinked(error)}`
      : `The agent finished ${name}.`;
    void vscode.window.showInformationMessage(message, "Show Result").then((choice) => {
      if (choice) this.notices.inBackground(this.delivery.showResult(threadId));
    });
  }
}
