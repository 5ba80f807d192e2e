import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { ServiceClient } from "../../src/core/client";

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** A real HTTP server for one test, and a client of it. */
export async function serve(
  answer: (request: Received, response: ServerResponse) => void,
): Promise<{ client: ServiceClient; url: string; received: Received[] }> {
  const received: Received[] = [];
  const listener: RequestListener = (request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      const got = { method, path: url, headers, body: Buffer.concat(pieces).toString() };
      received.push(got);
      answer(got, response);
    });
  };
  const server = createServer(listener).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { client: new ServiceClient({ baseUrl: url, apiKey: "secret" }), url, received };
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
