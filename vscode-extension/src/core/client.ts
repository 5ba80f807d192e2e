/** The service as the editor sees it: the documented routes over HTTP, with everything long as a stream. */

import * as api from "./api";
import { type AgentEvent, readEvent } from "./events";
import { cancelled, Fault } from "./faults";
import { type Check, type Checked, list, nullable, number, object, parse, text } from "./shape";
import { type ServerSentEvent, serverSentEvents } from "./sse";

const ANSWER_MS = 30_000;
/** A rewind has files to restore, a cancel waits for the step under way. */
const PATIENT_MS = 60_000;
/** A stream without even a sign of life (the service sends one every 15 s) for so long is broken. */
const SILENCE_MS = 60_000;
/** Models on small machines read long prompts for minutes before they say anything. */
const FIRST_WORD_MS = 10 * 60_000;

export interface Connection {
  /** Without a slash at its end. */
  baseUrl: string;
  apiKey?: string | undefined;
  fetch?: typeof globalThis.fetch;
  /** How long an answer is waited for; 30 s if absent. */
  answerMs?: number;
  /** Told of every request when its answer begins, or when it fails. */
  onRequest?: (request: Requested) => void;
}

/** For the log: never bodies, never keys. */
export interface Requested {
  method: string;
  path: string;
  outcome: string;
  milliseconds: number;
}

interface Options {
  body?: unknown;
  signal?: AbortSignal | undefined;
  milliseconds?: number;
  headers?: Record<string, string>;
}

const toolCallDelta = object({
  index: nullable(number),
  id: nullable(text),
  function: nullable(object({ name: nullable(text), arguments: nullable(text) })),
});
/** A piece of a tool call of OpenAI's protocol. */
export type ToolCallDelta = Checked<typeof toolCallDelta>;

const chunk = object({
  choices: list(
    object({ delta: object({ content: nullable(text), tool_calls: nullable(list(toolCallDelta)) }) }),
  ),
});

/** A piece of an answer of the chat routes. */
export interface ChatDelta {
  text: string;
  toolCalls: ToolCallDelta[];
}

/** All methods throw a Fault, and one of kind `cancelled` when their signal is aborted. */
export class ServiceClient {
  readonly #connection: Connection;
  readonly #fetch: typeof globalThis.fetch;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#fetch = connection.fetch ?? globalThis.fetch;
  }

  get baseUrl(): string {
    return this.#connection.baseUrl;
  }

  about(signal?: AbortSignal): Promise<api.About> {
    return this.#json("GET", "/", api.about, { signal });
  }

  health(signal?: AbortSignal): Promise<api.Health> {
    return this.#json("GET", "/health", api.health, { signal });
  }

  async models(signal?: AbortSignal): Promise<string[]> {
    const { data } = await this.#json("GET", "/v1/models", api.modelList, { signal });
    return data.map((model) => model.id);
  }

  /** The answer to a prompt with what is on the screen, piece by piece. */
  ask(request: api.ContextualChatRequest, signal?: AbortSignal): AsyncGenerator<ChatDelta> {
    return this.#chat("/v1/contextual_chat/completions", { ...request, stream: true }, signal);
  }

  /** The answer to a request of OpenAI's protocol, piece by piece. */
  complete(request: Record<string, unknown>, signal?: AbortSignal): AsyncGenerator<ChatDelta> {
    return this.#chat("/v1/chat/completions", { ...request, stream: true }, signal);
  }

  /** Give an instruction; the run's events. The same key again never starts a second run. */
  invoke(request: api.CodeAgentRequest, key: string, signal?: AbortSignal): AsyncGenerator<AgentEvent> {
    const headers = { "Idempotency-Key": key };
    return this.#events("POST", "/v1/agents/code/invoke", {
      body: { ...request, stream: true },
      headers,
      signal,
    });
  }

  /** Answer a question; the events of the run that goes on. */
  resume(answer: api.ResumeRequest, key: string, signal?: AbortSignal): AsyncGenerator<AgentEvent> {
    const headers = { "Idempotency-Key": key };
    return this.#events("POST", "/v1/agents/resume", { body: { ...answer, stream: true }, headers, signal });
  }

  /** The thread's events after that number, and then as they come. It does not end by itself. */
  follow(threadId: string, after: number, signal?: AbortSignal): AsyncGenerator<AgentEvent> {
    const headers = { "Last-Event-ID": String(after) };
    return this.#events("GET", `${thread(threadId)}/events`, { headers, signal });
  }

  /** The latest threads. */
  async threads(limit: number, signal?: AbortSignal): Promise<api.ThreadSummary[]> {
    const path = `/v1/agents/threads?limit=${limit}`;
    return (await this.#json("GET", path, api.threadList, { signal })).threads;
  }

  thread(threadId: string, signal?: AbortSignal): Promise<api.ThreadDetail> {
    return this.#json("GET", thread(threadId), api.threadDetail, { signal });
  }

  /** One unified diff of all that the thread changed; empty if nothing. */
  async diff(threadId: string): Promise<string> {
    return (await this.#json("GET", `${thread(threadId)}/diff`, api.threadDiff)).diff;
  }

  /** The moments to which the thread can go back, the newest first. */
  async history(threadId: string): Promise<api.HistoryCheckpoint[]> {
    return (await this.#json("GET", `${thread(threadId)}/history?limit=100`, api.threadHistory)).checkpoints;
  }

  rewind(threadId: string, checkpointId: string, files: boolean): Promise<api.ThreadRewound> {
    const body = { checkpoint_id: checkpointId, files };
    return this.#json("POST", `${thread(threadId)}/rewind`, api.threadRewound, {
      body,
      milliseconds: PATIENT_MS,
    });
  }

  /** Stop the run under way, or withdraw the open questions. */
  cancel(threadId: string): Promise<api.ThreadDetail> {
    const options = { body: {}, milliseconds: PATIENT_MS };
    return this.#json("POST", `${thread(threadId)}/cancel`, api.threadDetail, options);
  }

  async delete(threadId: string): Promise<void> {
    await this.#request("DELETE", thread(threadId), {}, AbortSignal.timeout(ANSWER_MS));
  }

  async #json<T>(method: string, path: string, check: Check<T>, options: Options = {}): Promise<T> {
    const limit = AbortSignal.timeout(options.milliseconds ?? this.#connection.answerMs ?? ANSWER_MS);
    const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
    const response = await this.#request(method, path, options, signal);
    const body = await translated(() => response.text(), options.signal);
    return parse(body, check, `the answer to ${method} ${path}`);
  }

  async *#chat(path: string, body: unknown, signal?: AbortSignal): AsyncGenerator<ChatDelta> {
    for await (const { data } of this.#stream("POST", path, { body, signal }, FIRST_WORD_MS)) {
      if (data === "[DONE]") return;
      if (data.includes('"error"')) throwStreamedError(data);
      for (const { delta } of parse(data, chunk, "a piece of the answer").choices) {
        yield { text: delta.content ?? "", toolCalls: delta.tool_calls ?? [] };
      }
    }
    throw new Fault("cut", "the answer broke off");
  }

  async *#events(method: string, path: string, options: Options): AsyncGenerator<AgentEvent> {
    for await (const { event, data } of this.#stream(method, path, options, SILENCE_MS)) {
      const known = readEvent(event, data);
      if (known) yield known;
    }
    throw new Fault("cut", "the service ended the stream");
  }

  async *#stream(
    method: string,
    path: string,
    options: Options,
    silence: number,
  ): AsyncGenerator<ServerSentEvent> {
    const idle = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, idle.signal]) : idle.signal;
    let timer = setTimeout(() => idle.abort(), silence);
    const alive = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => idle.abort(), silence);
    };
    try {
      const accept = { Accept: "text/event-stream", ...options.headers };
      const response = await this.#request(method, path, { ...options, headers: accept }, signal);
      if (!response.headers.get("content-type")?.startsWith("text/event-stream") || !response.body) {
        await response.body?.cancel();
        throw new Fault("malformed", `the answer to ${method} ${path} is not a stream of events`);
      }
      const pieces = response.body as unknown as AsyncIterable<Uint8Array>;
      yield* translatedStream(serverSentEvents(watched(pieces, alive)), options.signal);
    } finally {
      clearTimeout(timer);
      idle.abort();
    }
  }

  async #request(method: string, path: string, options: Options, signal: AbortSignal): Promise<Response> {
    const { apiKey, baseUrl, onRequest } = this.#connection;
    const headers: Record<string, string> = { Accept: "application/json", ...options.headers };
    if (options.body !== undefined) headers["Content-Type"] = "application/json";
    if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
    const begun = performance.now();
    const tell = (outcome: string): void =>
      onRequest?.({ method, path, outcome, milliseconds: Math.round(performance.now() - begun) });
    // A redirect is an error: what is sent is meant for this address only.
    const init: RequestInit = { method, headers, signal, redirect: "error" };
    if (options.body !== undefined) init.body = JSON.stringify(options.body);
    try {
      const response = await translated(() => this.#fetch(baseUrl + path, init), options.signal);
      tell(String(response.status));
      if (!response.ok) throw await refusal(response);
      return response;
    } catch (error) {
      if (!(error instanceof Fault && error.kind === "http"))
        tell(error instanceof Fault ? error.kind : "failed");
      throw error;
    }
  }
}

const thread = (threadId: string): string => `/v1/agents/threads/${encodeURIComponent(threadId)}`;

async function* watched<T>(pieces: AsyncIterable<T>, alive: () => void): AsyncGenerator<T> {
  for await (const piece of pieces) {
    alive();
    yield piece;
  }
}

async function translated<T>(work: () => Promise<T>, wanted?: AbortSignal): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asFault(error, wanted, "unreachable");
  }
}

async function* translatedStream<T>(pieces: AsyncIterable<T>, wanted?: AbortSignal): AsyncGenerator<T> {
  try {
    yield* pieces;
  } catch (error) {
    throw asFault(error, wanted, "cut");
  }
}

/** What `fetch` threw: `wanted` is the signal of the person, every other abort is a time limit. */
function asFault(error: unknown, wanted: AbortSignal | undefined, kind: "unreachable" | "cut"): Fault {
  if (error instanceof Fault) return error;
  if (wanted?.aborted) return cancelled();
  const name = error instanceof Error ? error.name : "";
  if (name === "AbortError" || name === "TimeoutError")
    return new Fault("timeout", "no sign of life in time");
  const why = reason(error);
  return new Fault(/^UND_ERR_(HEADERS|BODY)_TIMEOUT$/.test(why) ? "timeout" : kind, why);
}

/** `fetch failed` is all that the error itself says; the reason is in its cause. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause as { code?: string; message?: string } | undefined;
  return cause?.code ?? cause?.message ?? error.message;
}

async function refusal(response: Response): Promise<Fault> {
  const { status } = response;
  const wait = Number(response.headers.get("retry-after") ?? NaN);
  const details = { status, ...(Number.isFinite(wait) && { retryAfterSeconds: wait }) };
  const body = await response.text().catch(() => "");
  try {
    const { error } = parse(body, api.errorAnswer, "the error");
    return new Fault("http", error.message, { ...details, ...(error.code !== null && { code: error.code }) });
  } catch {
    return new Fault("http", `The service answered with HTTP status ${status}.`, details);
  }
}

/** An error event takes the place of the end of an answer that broke off. */
function throwStreamedError(data: string): void {
  let error;
  try {
    error = parse(data, api.errorAnswer, "the error").error;
  } catch {
    return;
  }
  throw new Fault("http", error.message, error.code === null ? {} : { code: error.code });
}
