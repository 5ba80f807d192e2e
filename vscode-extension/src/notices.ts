import * as vscode from "vscode";
import * as config from "./config";
import type { ServiceConnection } from "./connection";
import { type Remedy, REMEDY_TITLES, type Told, unlinked, wording } from "./core/wording";
import { REMEDIES } from "./remedies";
import type { Server } from "./server";

/** Tells people what went wrong, with the buttons that help. */
export class Notices {
  constructor(
    private readonly connection: ServiceConnection,
    private readonly server: Server,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  /** The handler, so that nothing it throws goes unseen. A person may try again. */
  guard<A extends unknown[], R>(handler: (...args: A) => R): (...args: A) => Promise<Awaited<R> | undefined> {
    const guarded = async (...args: A): Promise<Awaited<R> | undefined> => {
      try {
        return await handler(...args);
      } catch (error) {
        void this.show(error, () => guarded(...args));
        return undefined;
      }
    };
    return guarded;
  }

  /** Work whose end nobody waits for. */
  inBackground(work: Promise<unknown>): void {
    work.catch((error: unknown) => void this.show(error));
  }

  /** Show what went wrong; `retry` is what *Retry* does. Resolves when the person has chosen. */
  async show(error: unknown, retry?: () => Promise<unknown>): Promise<void> {
    try {
      const told = await this.word(error);
      if (!told) return;
      const remedies = told.remedies.filter((remedy) => retry !== undefined || remedy !== "retry");
      const titles = remedies.map((remedy) => REMEDY_TITLES[remedy]);
      const chosen = await vscode.window.showErrorMessage(unlinked(told.message), ...titles);
      const remedy = remedies.find((each) => REMEDY_TITLES[each] === chosen);
      if (remedy) await this.#help(remedy, retry);
    } catch (failure) {
      this.log.error(failure instanceof Error ? failure : String(failure));
    }
  }

  /** What to tell about it, wherever that is shown; undefined when there is nothing to tell. It is logged. */
  async word(error: unknown): Promise<Told | undefined> {
    if (error instanceof vscode.CancellationError) return undefined;
    const told = wording(error, await this.#surroundings());
    if (told) this.log.error(error instanceof Error ? error : String(error));
    return told;
  }

  async #help(remedy: Remedy, retry?: () => Promise<unknown>): Promise<void> {
    if (remedy === "retry") {
      await retry?.();
      return;
    }
    const { command, arguments: given = [] } = REMEDIES[remedy];
    // Those that may have mended it say so.
    if ((await vscode.commands.executeCommand(command, ...(given as unknown[]))) === true) await retry?.();
  }

  async #surroundings(): Promise<{ baseUrl: string; canStart: boolean; hasKey: boolean }> {
    try {
      const canStart = this.server.canStart();
      return { baseUrl: config.baseUrl(), canStart, hasKey: await this.connection.hasKey() };
    } catch {
      return { baseUrl: "the configured address", canStart: false, hasKey: false };
    }
  }
}
