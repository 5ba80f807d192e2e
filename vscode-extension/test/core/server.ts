import { onTestFinished } from "vitest";
import { ServiceClient } from "../../src/core/client";
import { type Answer, type Received, TestServer } from "../wire";

export { events, finished, json, message, started } from "../wire";

/** A real HTTP server for one test, and a client of it. */
export async function serve(
  answer: Answer,
): Promise<{ client: ServiceClient; url: string; received: Received[] }> {
  const server = await TestServer.start(answer);
  onTestFinished(() => server.stop());
  const { url, received } = server;
  return { client: new ServiceClient({ baseUrl: url, apiKey: "secret" }), url, received };
}
