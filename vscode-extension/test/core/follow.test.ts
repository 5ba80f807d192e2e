import { expect, test } from "vitest";
import type { AgentEvent } from "../../src/core/events";
import { followRun, type Following } from "../../src/core/follow";
import type { ServiceClient } from "../../src/core/client";
import { events, finished, json, message, serve, started } from "./server";

const request = { instruction: "do it", thread_id: "thread-1" };
const follow = async (client: ServiceClient, options?: Following): Promise<AgentEvent["kind"][]> => {
  const kinds: AgentEvent["kind"][] = [];
  for await (const event of followRun(client, () => client.invoke(request, "key-1"), options))
    kinds.push(event.kind);
  return kinds;
};

test("a run that goes through is one request", async () => {
  const { client, received } = await serve((_, response) => events(response, [started, message, finished]));
  expect(await follow(client)).toEqual(["run.started", "message", "run.finished"]);
  expect(received).toHaveLength(1);
  expect(received[0]?.headers).toMatchObject({ "idempotency-key": "key-1", accept: "text/event-stream" });
});

test("a stream that is cut is taken up after the last event, without a gap and without others' events", async () => {
  const other = { ...message, run_id: "run-2" };
  const { client, received } = await serve(({ method }, response) => {
    if (method === "POST") events(response, [started]);
    else events(response, [other, message, finished], false);
  });
  let breaks = 0;
  const onReconnect = (): void => {
    breaks += 1;
  };
  expect(await follow(client, { onReconnect })).toEqual(["run.started", "message", "run.finished"]);
  expect(breaks).toBe(1);
  expect(received[1]).toMatchObject({
    path: "/v1/agents/threads/thread-1/events",
    headers: { "last-event-id": "1" },
  });
});

test("cut before its first event, it is asked for again with the same key, until it is not busy", async () => {
  let calls = 0;
  const { client, received } = await serve((_, response) => {
    calls += 1;
    if (calls === 1) events(response, []);
    else if (calls === 2) json(response, 409, { error: { message: "Busy.", code: "thread_busy" } });
    else events(response, [finished]);
  });
  expect(await follow(client)).toEqual(["run.finished"]);
  expect(received.map(({ headers }) => headers["idempotency-key"])).toEqual(["key-1", "key-1", "key-1"]);
});

test("what the service refuses is not tried again", async () => {
  const { client, received } = await serve((_, response) =>
    json(response, 422, { error: { message: "No.", code: "invalid_request" } }),
  );
  await expect(follow(client)).rejects.toMatchObject({ status: 422 });
  expect(received).toHaveLength(1);
});

test("a service that stays away is given up", async () => {
  const { client } = await serve(({ method }, response) => {
    if (method === "POST") events(response, [started]);
    else response.destroy();
  });
  await expect(follow(client, { reconnectMs: 300 })).rejects.toMatchObject({ isConnection: true });
});

test("a cancel ends the waiting", async () => {
  const leave = new AbortController();
  const { client } = await serve((_, response) => events(response, [started]));
  const onReconnect = (): void => leave.abort();
  await expect(follow(client, { signal: leave.signal, onReconnect })).rejects.toMatchObject({
    kind: "cancelled",
  });
});
