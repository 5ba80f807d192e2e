import * as vscode from "vscode";
import type { ServiceConnection } from "./connection";
import type { Board, Changes } from "./core/board";
import { Fault } from "./core/faults";

const AWAY_MS = 5_000;
const LONG_AWAY_MS = 20_000;
/** After so many looks in vain the service is not expected back any moment. */
const PATIENCE = 12;

/** Looks at the service's threads, often while something is going on there and seldom otherwise. */
export class Watch implements vscode.Disposable {
  readonly #changed = new vscode.EventEmitter<Changes>();
  /** After every look that worked. */
  readonly onLooked = this.#changed.event;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #again = false;
  #failures = 0;
  #disposed = false;

  constructor(
    private readonly connection: ServiceConnection,
    private readonly board: Board,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  /** Look now. Resolves after a look that began later than this call. */
  async look(): Promise<void> {
    this.#again = this.#looking !== undefined;
    this.#looking ??= this.#lookUntilFresh().finally(() => (this.#looking = undefined));
    await this.#looking;
  }

  /** The settings name another service: what is known is of no use. */
  async lookElsewhere(): Promise<void> {
    this.#changed.fire(this.board.clear());
    await this.look();
  }

  dispose(): void {
    this.#disposed = true;
    clearTimeout(this.#timer);
    this.#changed.dispose();
  }

  async #lookUntilFresh(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#lookOnce();
    while (this.#wanted()) await this.#lookOnce();
    if (this.#disposed) return;
    const away = this.#failures > PATIENCE ? LONG_AWAY_MS : AWAY_MS;
    this.#timer = setTimeout(() => void this.look(), this.#failures > 0 ? away : this.board.pauseMs);
  }

  #wanted(): boolean {
    const wanted = this.#again;
    this.#again = false;
    return wanted;
  }

  async #lookOnce(): Promise<void> {
    try {
      const changes = await this.board.refresh(await this.connection.client());
      this.#failures = 0;
      this.connection.observe();
      if (!this.#disposed) this.#changed.fire(changes);
    } catch (error) {
      this.#failures++;
      this.connection.observe(error);
      if (!(error instanceof Fault)) this.log.error(error instanceof Error ? error : String(error));
    }
  }
}
