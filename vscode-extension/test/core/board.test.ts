import { expect, test } from "vitest";
import { Board } from "../../src/core/board";
import { json, serve } from "./server";

const summary = (thread_id: string, status: string, updated_at = "2026-01-01T00:00:00Z") => ({
  thread_id,
  title: `about ${thread_id}`,
  project_directory: null,
  updated_at,
  status,
});
const question = (tool_call_id: string) => ({ tool_call_id, question_for_human: "Why?", kind: "question" });

/** A service whose threads the test sets. */
const service = async (threads: { list: ReturnType<typeof summary>[]; open: Record<string, string[]> }) =>
  serve(({ path }, response) => {
    const id = /threads\/([^?]+)/.exec(path)?.[1];
    if (id === undefined) {
      json(response, 200, { threads: threads.list });
      return;
    }
    const found = threads.list.find((each) => each.thread_id === id);
    if (!found) {
      json(response, 404, { error: { message: "Gone.", code: "thread_not_found" } });
      return;
    }
    json(response, 200, { ...found, pending_requests: (threads.open[id] ?? []).map(question) });
  });

test("questions open and close, and only what changed is asked for", async () => {
  const threads = {
    list: [summary("a", "requires_human_input"), summary("b", "running")],
    open: { a: ["q1"] } as Record<string, string[]>,
  };
  const { client, received } = await service(threads);
  const board = new Board();
  expect((await board.refresh(client)).opened.map(({ request }) => request.tool_call_id)).toEqual(["q1"]);
  expect(await board.refresh(client)).toEqual({ opened: [], closed: [] });
  expect(received.filter(({ path }) => path.endsWith("/a"))).toHaveLength(1);
  expect(board.threads.map((each) => each.place)).toEqual(["waiting", "running"]);

  threads.list = [summary("a", "requires_human_input", "2026-01-01T00:01:00Z")];
  threads.open = { a: ["q2"] };
  const { opened, closed } = await board.refresh(client);
  expect(opened.map(({ request }) => request.tool_call_id)).toEqual(["q2"]);
  expect(closed.map(({ request }) => request.tool_call_id)).toEqual(["q1"]);
});

test("a service that is away leaves everything as it was known", async () => {
  const threads = { list: [summary("a", "requires_human_input")], open: { a: ["q1"] } };
  const { client } = await service(threads);
  const board = new Board();
  await board.refresh(client);
  const away = await serve((_, response) => json(response, 503, {}));
  await expect(board.refresh(away.client)).rejects.toMatchObject({ status: 503 });
  expect(board.questions).toHaveLength(1);
  expect(board.clear().closed).toHaveLength(1);
});

test("the more goes on, the sooner it looks again", async () => {
  const threads = { list: [summary("a", "idle")], open: { b: ["q"] } };
  const { client } = await service(threads);
  const board = new Board();
  const pause = async (...list: ReturnType<typeof summary>[]): Promise<number> => {
    threads.list = list;
    await board.refresh(client);
    return board.pauseMs;
  };
  const idle = await pause(summary("a", "idle"));
  const waiting = await pause(summary("b", "requires_human_input"));
  const running = await pause(summary("c", "running"));
  expect(running).toBeLessThan(waiting);
  expect(waiting).toBeLessThan(idle);
});
