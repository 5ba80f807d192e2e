/** A run's events from its first to its last, however often the connection breaks on the way. */

import type { ServiceClient } from "./client";
import type { AgentEvent } from "./events";
import { cancelled, Fault, hasCode } from "./faults";

/** How long a service that went away is waited for. */
export const RECONNECT_MS = 60_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 3_000;

export interface Following {
  signal?: AbortSignal | undefined;
  /** Told when the connection broke off and is tried again. */
  onReconnect?: (() => void) | undefined;
  reconnectMs?: number;
}

/**
 * The events of the run that `begin` starts. `begin` is called again, with the same idempotency key in
 * it, when the connection broke before the first event; later the thread's own stream takes over.
 *
 * Throws a Fault: at once when nothing answers to the first call, later when the service stays away.
 */
export async function* followRun(
  client: ServiceClient,
  begin: () => AsyncGenerator<AgentEvent>,
  options: Following = {},
): AsyncGenerator<AgentEvent> {
  let last: AgentEvent | undefined;
  let reached = false;
  let giveUp = 0;
  let pause = FIRST_PAUSE_MS;
  const { signal, onReconnect, reconnectMs = RECONNECT_MS } = options;
  for (;;) {
    try {
      for await (const event of last ? laterEvents(client, last, signal) : begin()) {
        [last, giveUp, pause] = [event, 0, FIRST_PAUSE_MS];
        yield event;
        if (event.kind === "run.finished") return;
      }
      throw new Fault("cut", "the events ended before the run did");
    } catch (error) {
      // After a first attempt that was cut, the run it began is still under way for the second one.
      const busy = reached && !last && hasCode(error, "thread_busy");
      const away = error instanceof Fault && (error.isConnection || (last && error.status === 503));
      if (!(error instanceof Fault) || !(away || busy)) throw error;
      if (!last && !reached && error.kind === "unreachable") throw error;
      reached = true;
      giveUp ||= Date.now() + reconnectMs;
      if (Date.now() > giveUp) throw error;
      onReconnect?.();
    }
    await sleep(pause, signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

async function* laterEvents(
  client: ServiceClient,
  last: AgentEvent,
  signal?: AbortSignal,
): AsyncGenerator<AgentEvent> {
  for await (const event of client.follow(last.thread_id, last.seq, signal)) {
    if (event.run_id === last.run_id) yield event;
  }
}

/** Throws a Fault of kind `cancelled` when the signal is aborted before. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(cancelled());
      return;
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", leave);
      resolve();
    }, milliseconds);
    const leave = (): void => {
      clearTimeout(timer);
      reject(cancelled());
    };
    signal?.addEventListener("abort", leave, { once: true });
  });
}
