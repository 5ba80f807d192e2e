import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, test } from "vitest";
import { ServiceClient } from "../../src/core/client";
import { Fault } from "../../src/core/faults";
import { json, serve } from "./server";

const faultOf = async (work: Promise<unknown>): Promise<Fault> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof Fault) return error;
  throw new Error(`no fault: ${String(error)}`);
};

const all = async <T>(pieces: AsyncIterable<T>): Promise<T[]> => {
  const got: T[] = [];
  for await (const piece of pieces) got.push(piece);
  return got;
};

const chunk = (content: string): string =>
  `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;

test("the key goes along, and bodies are JSON", async () => {
  const { client, received } = await serve((_, response) => json(response, 200, { threads: [] }));
  await client.threads(5);
  expect(received[0]).toMatchObject({
    path: "/v1/agents/threads?limit=5",
    headers: { authorization: "Bearer secret" },
  });
});

test("nothing that is sent follows a redirect to another address", async () => {
  const { client, received } = await serve((_, response) =>
    json(response, 307, {}, { location: "http://127.0.0.1:9/" }),
  );
  expect((await faultOf(client.threads(1))).kind).toBe("unreachable");
  expect(received).toHaveLength(1);
});

test("an answer comes in pieces", async () => {
  const { client } = await serve((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(`${chunk("Hello ")}${chunk("world")}data: [DONE]\n\n`);
  });
  expect((await all(client.ask({ prompt: "hi" }))).map((piece) => piece.text)).toEqual(["Hello ", "world"]);
});

test.each([
  ["a stream that ends early", chunk("half"), { kind: "cut" }],
  [
    "an error in a stream",
    `data: {"error": {"message": "It broke", "code": "provider_error"}}\n\n`,
    { kind: "http", code: "provider_error", message: "It broke" },
  ],
  ["a broken event", "data: {nonsense\n\n", { kind: "malformed" }],
])("%s is a fault", async (_, stream, fault) => {
  const { client } = await serve((__, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(stream);
  });
  expect(await faultOf(all(client.ask({ prompt: "hi" })))).toMatchObject(fault);
});

test("text that speaks of an error is not one", async () => {
  const { client } = await serve((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(`${chunk('{"error": 1}')}data: [DONE]\n\n`);
  });
  expect((await all(client.ask({ prompt: "hi" })))[0]?.text).toBe('{"error": 1}');
});

test.each([
  [
    "the service's own words",
    409,
    { error: { message: "Busy.", code: "thread_busy" } },
    { code: "thread_busy", message: "Busy." },
  ],
  [
    "a page of a proxy",
    502,
    "<html>",
    { status: 502, message: "The service answered with HTTP status 502." },
  ],
])("an error has %s", async (_, status, body, fault) => {
  const { client } = await serve((__, response) => json(response, status, body, { "retry-after": "7" }));
  expect(await faultOf(client.health())).toMatchObject({ kind: "http", retryAfterSeconds: 7, ...fault });
});

test("what answers but is not the service is malformed", async () => {
  const { client } = await serve((_, response) => json(response, 200, { hello: "world" }));
  expect((await faultOf(client.about())).kind).toBe("malformed");
  expect((await faultOf(all(client.ask({ prompt: "hi" })))).kind).toBe("malformed");
});

test("a service that takes a request and says nothing is given up", async () => {
  const { url } = await serve(() => undefined);
  const fault = await faultOf(new ServiceClient({ baseUrl: url, answerMs: 50 }).health());
  expect(fault.kind).toBe("timeout");
});

test("where nothing listens the reason is told", async () => {
  const closed = createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  const { port } = closed.address() as AddressInfo;
  await once(closed.close(), "close");
  const fault = await faultOf(new ServiceClient({ baseUrl: `http://127.0.0.1:${port}` }).about());
  expect(fault).toMatchObject({ kind: "unreachable", message: "ECONNREFUSED" });
});

test("who cancels gets a cancel, before and amid the answer", async () => {
  const leave = new AbortController();
  const { client } = await serve((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk("first"));
  });
  const stream = client.ask({ prompt: "hi" }, leave.signal);
  await stream.next();
  leave.abort();
  expect((await faultOf(stream.next())).kind).toBe("cancelled");
  expect((await faultOf(client.health(leave.signal))).kind).toBe("cancelled");
});
