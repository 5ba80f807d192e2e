import * as vscode from "vscode";
import type { ApiKeys } from "./apiKeys";
import * as config from "./config";
import { type Requested, ServiceClient } from "./core/client";
import { Fault, isUnauthorized } from "./core/faults";

export type ConnectionState = "unknown" | "connected" | "unauthorized" | "unreachable";

/** The service that the settings name. */
export class ServiceConnection {
  #state: ConnectionState = "unknown";
  readonly #changed = new vscode.EventEmitter<void>();
  /** The service came, went, or another one is meant now. */
  readonly onChanged = this.#changed.event;

  constructor(
    private readonly keys: ApiKeys,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  /** A client with the settings and the key of this moment. Throws a Fault of kind `settings`. */
  async client(): Promise<ServiceClient> {
    const baseUrl = config.baseUrl();
    const apiKey = await this.keys.get(baseUrl);
    return new ServiceClient({ baseUrl, apiKey, onRequest: (request) => this.#note(request) });
  }

  async hasKey(): Promise<boolean> {
    return (await this.keys.get(config.baseUrl())) !== undefined;
  }

  /** What an attempt to reach the service came to; shown by the views. */
  observe(error?: unknown): void {
    const state = stateOf(error);
    if (state === this.#state) return;
    this.#state = state;
    this.log.info(`the service is ${state}`);
    void vscode.commands.executeCommand("setContext", "openhands.connection", state);
    this.#changed.fire();
  }

  /** What is there, in a sentence, and what is wrong with it. Throws a Fault when it cannot be used. */
  async check(): Promise<{ found: string; hasModel: boolean; problems: readonly string[] }> {
    const client = await this.client();
    const about = await client.about();
    if (about.name !== "agent-service") throw new Fault("malformed", `it calls itself ${about.name}`);
    // The others are aliases, which stand for these.
    const models = (await client.models()).filter((name) => name.includes("/"));
    const health = await client.health();
    const has = models.length === 0 ? "which has no model yet" : count(models.length, "model");
    const found = `Connected to ${about.name} ${about.version}, ${has}.`;
    return { found, hasModel: models.length > 0, problems: health.problems };
  }

  #note({ method, path, outcome, milliseconds }: Requested): void {
    const line = `${method} ${path}: ${outcome}, ${milliseconds} ms`;
    // The threads are looked at every few seconds; only what goes wrong there is worth a line.
    if (method === "GET" && outcome === "200") this.log.trace(line);
    else this.log.info(line);
  }
}

export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`;

function stateOf(error: unknown): ConnectionState {
  if (error === undefined) return "connected";
  return isUnauthorized(error) ? "unauthorized" : "unreachable";
}
