import type { ServerResponse } from "node:http";
import { type Answer, events, finished, json, type Received, started, TestServer } from "../wire";

/** Answers as the service does, except where a test says otherwise. */
export class FakeService {
  readonly #routes = new Map<string, Answer>();
  #server: TestServer | undefined;
  thread: { readonly [field: string]: unknown; readonly thread_id?: unknown } = {};

  static async start(): Promise<FakeService> {
    const fake = new FakeService();
    fake.#server = await TestServer.start((request, response) => fake.#answer(request, response));
    return fake;
  }

  get url(): string {
    return this.#server?.url ?? "";
  }

  /** What a route was sent, such as `POST /v1/agents/resume`. */
  sent(route: string): Received[] {
    return this.#server?.received.filter((request) => routeOf(request) === route) ?? [];
  }

  /** The body that a route was sent last. */
  lastBody(route: string): Record<string, unknown> {
    return JSON.parse(this.sent(route).at(-1)?.body ?? "{}") as Record<string, unknown>;
  }

  on(route: string, answer: Answer): void {
    this.#routes.set(route, answer);
  }

  /** Everything is answered as by the service again, and what was sent is forgotten. */
  reset(): void {
    this.#routes.clear();
    this.#server?.received.splice(0);
    this.on("GET /", (_, response) => json(response, 200, { name: "agent-service", version: "1.2.3" }));
    this.on("GET /health", (_, response) => json(response, 200, { status: "ok", problems: [] }));
    this.on("GET /v1/models", (_, response) =>
      json(response, 200, { data: [{ id: "up/m1" }, { id: "quick" }] }),
    );
    this.on("GET /v1/agents/threads", (_, response) => json(response, 200, { threads: [] }));
  }

  /** Each run ends at once with these fields in its response. */
  agentAnswers(fields: object): void {
    this.on("POST /v1/agents/code/invoke", ({ body }, response) => {
      const { thread_id } = JSON.parse(body) as { thread_id: string };
      const last = { ...finished, thread_id, response: { ...finished.response, thread_id, ...fields } };
      events(response, [{ ...started, thread_id }, last]);
    });
  }

  /** The one thread that there is, as the routes of threads tell it. */
  threadIs(detail: { readonly [field: string]: unknown; readonly thread_id?: unknown }): void {
    this.thread = { ...detail, updated_at: new Date().toISOString() };
    this.on("GET /v1/agents/threads", (_, response) => json(response, 200, { threads: [this.thread] }));
    this.on(`GET /v1/agents/threads/${String(detail.thread_id)}`, (_, response) =>
      json(response, 200, this.thread),
    );
  }

  stop(): void {
    this.#server?.stop();
  }

  #answer(request: Received, response: ServerResponse): void {
    const answer = this.#routes.get(routeOf(request));
    if (answer) answer(request, response);
    else json(response, 404, { error: { message: `No ${routeOf(request)}.`, code: "not_found" } });
  }
}

const routeOf = ({ method, path }: Received): string => `${method} ${path.split("?")[0] ?? ""}`;

/** An answer of the chat routes, in these pieces. */
export function chatStream(response: ServerResponse, deltas: readonly object[], end = true): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const delta of deltas) response.write(`data: ${JSON.stringify({ choices: [{ delta }] })}\n\n`);
  if (end) response.end("data: [DONE]\n\n");
}
