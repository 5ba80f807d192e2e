import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export type Answer = (request: Received, response: ServerResponse) => void;

/** A real HTTP server that answers as a test says, and keeps what it was sent. */
export class TestServer {
  readonly received: Received[] = [];
  readonly #server: Server;

  static async start(answer: Answer): Promise<TestServer> {
    const server = new TestServer(answer);
    server.#server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.#server.once("listening", resolve));
    return server;
  }

  private constructor(answer: Answer) {
    this.#server = createServer((request, response) => {
      const pieces: Buffer[] = [];
      request.on("data", (piece: Buffer) => pieces.push(piece));
      request.on("end", () => {
        const { method = "", url = "", headers } = request;
        const got = { method, path: url, headers, body: Buffer.concat(pieces).toString() };
        this.received.push(got);
        answer(got, response);
      });
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** An address where nothing listens any more. */
export async function nowhere(): Promise<string> {
  const server = await TestServer.start(() => undefined);
  const { url } = server;
  server.stop();
  return url;
}

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

/** The events as a stream, which stays open unless `end` says so. */
export function events(response: ServerResponse, all: readonly object[], end = true): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const event of all) {
    const { kind, seq } = event as { kind: string; seq: number };
    response.write(`id: ${seq}\nevent: ${kind}\ndata: ${JSON.stringify(event)}\n\n`);
  }
  if (end) response.end();
}

const common = { thread_id: "thread-1", run_id: "run-1" };
export const started = { ...common, seq: 1, kind: "run.started", instruction: "do it" };
export const message = { ...common, seq: 2, kind: "message", role: "assistant", text: "Done.", model: null };
export const finished = {
  ...common,
  seq: 3,
  kind: "run.finished",
  response: {
    agent_status: "completed",
    generated_code: null,
    explanation: "Done.",
    ...common,
    files_changed: [],
    pending_requests: [],
  },
};
