import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as api from "../../src/core/api";
import { Board } from "../../src/core/board";
import { ServiceClient } from "../../src/core/client";
import { type AgentEvent, EVENTS } from "../../src/core/events";
import { Fault } from "../../src/core/faults";
import { followRun } from "../../src/core/follow";
import { agentRequest, askRequest } from "../../src/core/requests";
import { advance, newSession } from "../../src/core/session";
import { type Schema, ServiceStack, type Step } from "../service/stack";
import { differences, objections, type Schemas, wordsOf } from "./description";

let root: string;
let project: string;
let stack: ServiceStack;
let client: ServiceClient;
let number = 0;

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), "contract-"));
  project = path.join(root, "project");
  await mkdir(project);
  stack = await ServiceStack.start(path.join(root, "service"), {
    agent: { allowed_roots: [project], approvals: { write_file: "ask" } },
  });
  client = new ServiceClient({ baseUrl: stack.url });
});

afterAll(async () => {
  await stack.stop();
  await rm(root, { recursive: true });
});

const collect = async <T>(pieces: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
};

const faultOf = async (work: Promise<unknown>): Promise<Fault> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof Fault) return error;
  throw new Error(`no fault: ${String(error)}`);
};

const asks: Step = { calls: [["ask_human_for_input", { question: "Which one?", options: ["a", "b"] }]] };
const newThread = (): string => `contract-${++number}-${Date.now()}`;

/** A run from its first event to its last. */
const run = async (threadId: string, ...steps: Step[]): Promise<AgentEvent[]> => {
  await stack.script(...steps);
  const request = agentRequest("do it", threadId, undefined, project, {});
  return collect(followRun(client, () => client.invoke(request, threadId)));
};

/** A thread that waits for an answer, and the question's name. */
const waiting = async (): Promise<{ threadId: string; callId: string }> => {
  const threadId = newThread();
  const last = (await run(threadId, asks)).at(-1);
  if (last?.kind !== "run.finished") throw new Error("the run did not finish");
  return { threadId, callId: last.response.human_input_request?.tool_call_id ?? "" };
};

const resume = (threadId: string, callId: string, answer: string): Promise<AgentEvent[]> => {
  const body = { thread_id: threadId, tool_call_id: callId, human_response: answer };
  return collect(followRun(client, () => client.resume(body, `${threadId}-${answer}`)));
};

describe("the service's own description", () => {
  let schemas: Schemas;
  let events: Schemas;
  beforeAll(async () => {
    const description = await fetch(`${stack.url}/openapi.json`);
    schemas = ((await description.json()) as { components: { schemas: Schemas } }).components.schemas;
    events = (await stack.eventSchema()).$defs;
  });
  const schema = (name: string): Schema => {
    const found = schemas[name];
    if (!found) throw new Error(`${name} is not described`);
    return found;
  };

  test.each([
    ["HumanInputRequest", api.humanInputRequest],
    ["FileChanged", api.fileChanged],
    ["CodeAgentResponse", api.codeAgentResponse],
    ["ThreadSummary", api.threadSummary],
    ["ThreadList", api.threadList],
    ["ThreadDetail", api.threadDetail],
    ["ThreadDiff", api.threadDiff],
    ["ThreadHistory", api.threadHistory],
    ["HistoryCheckpoint", api.historyCheckpoint],
    ["ThreadRewound", api.threadRewound],
    ["KeptFile", api.keptFile],
    ["About", api.about],
    ["Health", api.health],
    ["ErrorAnswer", api.errorAnswer],
  ])("%s has every field that is read, of that type", (name, { shape }) => {
    expect(differences(shape, schema(name), schemas, name)).toEqual([]);
  });

  // `Required`, so that a field that is added to a request is held against the description too.
  const agent: Required<api.CodeAgentRequest> = {
    instruction: "i",
    context: "c",
    language: "python",
    project_directory: "/p",
    thread_id: "thread-1",
    model_quality: "fastest",
    approvals: { "*": "ask" },
  };
  const chat: Required<api.ContextualChatRequest> = {
    prompt: "p",
    selected_text: "s",
    active_file_content: "a",
    model_quality: "fastest",
  };
  const answer: Required<api.ResumeRequest> = {
    thread_id: "thread-1",
    tool_call_id: "call-1",
    human_response: "yes",
  };
  test.each([
    ["CodeAgentRequest", agent],
    ["ContextualChatRequest", chat],
    ["ResumeRequest", answer],
    ["RewindRequest", { checkpoint_id: "c", files: true }],
  ])("%s takes every field that is sent, of that type, and wants no other", (name, body) => {
    expect(objections(body, schema(name), schemas, name)).toEqual([]);
  });

  test("knows the same qualities of models", () => {
    const quality = schema("CodeAgentRequest").properties?.model_quality ?? {};
    expect(wordsOf(quality, schemas).toSorted()).toEqual([...api.MODEL_QUALITIES].sort());
  });

  test("has exactly the events that are known here, with every field that is read", () => {
    const described = Object.values(events).filter(({ properties }) => properties?.kind !== undefined);
    const byKind = new Map(described.map((each) => [each.properties?.kind?.const ?? "", each]));
    expect([...byKind.keys()].sort()).toEqual(Object.keys(EVENTS).sort());
    const parted = Object.entries(EVENTS).flatMap(([kind, { shape }]) =>
      differences(shape, byKind.get(kind) ?? {}, events, kind),
    );
    expect(parted).toEqual([]);
  });

  test("is noticed when it says something else", () => {
    const thread = schema("ThreadSummary");
    const said = (name: string, field: Schema): string[] =>
      differences(
        api.threadSummary.shape,
        { ...thread, properties: { ...thread.properties, [name]: field } },
        schemas,
        "T",
      );
    expect(said("title", { type: "integer" })).toEqual(["T.title is number, not string"]);
    expect(said("title", { anyOf: [{ type: "string" }, { type: "null" }] })).toEqual(["T.title may be null"]);
    expect(said("status", { type: "string", enum: ["idle"] })).toHaveLength(1);
    expect(objections({ instruction: 1, more: "m" }, schema("CodeAgentRequest"), schemas, "R")).toEqual([
      "R.instruction is string, not number",
      "R.more is not known",
    ]);
  });
});

test("a prompt is answered in pieces, with the selection in it", async () => {
  await stack.script("It adds two numbers.");
  const screen = {
    fileName: "a.py",
    languageId: "python",
    text: "x = 1\n",
    selected: "x = 1",
    lines: [1, 1] as const,
  };
  const pieces = await collect(client.ask(askRequest("What is this?", screen, "balanced")));
  expect(pieces.map((piece) => piece.text).join("")).toBe("It adds two numbers.");
  expect(pieces.length).toBeGreaterThan(2);
  expect((await stack.requests()).at(-1)?.messages[0]?.content).toContain("x = 1");
});

test("a refusal of the model is a fault with the service's words", async () => {
  await stack.script({ status: 400, message: "no such parameter" });
  const fault = await faultOf(collect(client.ask({ prompt: "hello" })));
  expect(fault).toMatchObject({ kind: "http", code: "rejected_by_provider" });
});

describe("a run", () => {
  test("asks before it changes a file where the request wants that, whatever the service's rules", async () => {
    const threadId = newThread();
    await writeFile(path.join(project, "asked.txt"), "one\n");
    await stack.script(
      { calls: [["read_file", { filepath: "asked.txt" }]] },
      { calls: [["edit_file", { filepath: "asked.txt", old_text: "one", new_text: "two" }]] },
    );
    const request = agentRequest("do it", threadId, undefined, project, { asksFirst: true });
    const last = (await collect(followRun(client, () => client.invoke(request, threadId)))).at(-1);
    expect(last?.kind === "run.finished" && last.response.pending_requests).toMatchObject([
      { kind: "approval", preview: expect.stringContaining("+two") as string },
    ]);
    await client.cancel(threadId);
  });

  test("ends in exactly one run.finished, with the code", async () => {
    const events = await run(newThread(), "Here:\n```python\nx = 2\n```");
    expect(events.filter((event) => event.kind === "run.finished")).toHaveLength(1);
    const session = events.reduce(advance, newSession("t"));
    expect(session).toMatchObject({
      phase: "done",
      response: { generated_code: "x = 2", explanation: "Here:" },
    });
  });

  test("stops at a question, which any client sees, and goes on with the answer", async () => {
    const { threadId, callId } = await waiting();
    const board = new Board();
    const { opened } = await board.refresh(client);
    expect(opened.map((question) => question.request)).toContainEqual(
      expect.objectContaining({
        tool_call_id: callId,
        question_for_human: "Which one?",
        options: ["a", "b"],
      }),
    );
    await stack.script("Took a.");
    const session = (await resume(threadId, callId, "a")).reduce(advance, newSession(threadId));
    expect(session).toMatchObject({ phase: "done", questions: [] });
    const { closed } = await board.refresh(client);
    expect(closed.map((question) => question.request.tool_call_id)).toEqual([callId]);
  });

  test("waits for an approval with a diff, and tells what it wrote", async () => {
    await writeFile(path.join(project, "a.py"), "x = 1\n");
    const threadId = newThread();
    const write: Step = { calls: [["write_file", { filepath: "a.py", content: "x = 2\n" }]] };
    const last = (await run(threadId, write)).at(-1);
    if (last?.kind !== "run.finished") throw new Error("the run did not finish");
    const request = last.response.human_input_request;
    expect(request).toMatchObject({ kind: "approval" });
    expect(request?.preview).toContain("+x = 2");
    await stack.script("Done.");
    const session = (await resume(threadId, request?.tool_call_id ?? "", "yes")).reduce(
      advance,
      newSession(threadId),
    );
    expect(session.files).toEqual(["a.py"]);
    expect(await readFile(path.join(project, "a.py"), "utf8")).toBe("x = 2\n");
    expect(await client.diff(threadId)).toContain("-x = 1\n+x = 2\n");
    const moments = await client.history(threadId);
    const first = moments.find((moment) => moment.messages === 1);
    expect((await client.rewind(threadId, first?.checkpoint_id ?? "", true)).restored).toEqual(["a.py"]);
    await client.delete(threadId);
    expect((await faultOf(client.thread(threadId))).code).toBe("thread_not_found");
  });

  test("begins once, however often the same request comes", async () => {
    const threadId = newThread();
    await run(threadId, "Done.");
    const again = await collect(
      followRun(client, () =>
        client.invoke(agentRequest("do it", threadId, undefined, project, {}), threadId),
      ),
    );
    expect(again.map((event) => event.kind)).toEqual(["run.finished"]);
  });

  test("is cancelled", async () => {
    const threadId = newThread();
    await stack.script({ text: "too late", hold: "slow" });
    const request = agentRequest("do it", threadId, undefined, project, {});
    let session = newSession(threadId);
    for await (const event of followRun(client, () => client.invoke(request, threadId))) {
      if (event.kind === "run.started") void client.cancel(threadId);
      session = advance(session, event);
    }
    expect(session.phase).toBe("cancelled");
  });

  test("is followed to its end over a crash of the service", async () => {
    const threadId = newThread();
    await stack.script({ text: "first", hold: "crash" }, "Back again.");
    const request = agentRequest("do it", threadId, undefined, project, {});
    let session = newSession(threadId);
    let breaks = 0;
    const before = (await stack.requests()).length;
    const crash = async (): Promise<void> => {
      await expect.poll(async () => (await stack.requests()).length).toBeGreaterThan(before);
      await stack.kill();
      await stack.restart();
    };
    const onReconnect = (): void => {
      breaks += 1;
    };
    for await (const event of followRun(client, () => client.invoke(request, threadId), { onReconnect })) {
      session = advance(session, event);
      if (event.kind === "run.started") void crash();
    }
    expect(breaks).toBeGreaterThan(0);
    expect(session).toMatchObject({ phase: "done", response: { explanation: "Back again." } });
  });
});

describe("what is refused", () => {
  test("another answer than the first", async () => {
    const { threadId, callId } = await waiting();
    await stack.script("Took a.");
    await resume(threadId, callId, "a");
    expect((await faultOf(resume(threadId, callId, "b"))).code).toBe("already_answered");
  });

  test("a request without the key", async () => {
    const keyed = await mkdtemp(path.join(tmpdir(), "contract-key-"));
    const other = await ServiceStack.start(keyed, {
      server: { api_keys: [{ name: "me", key: "the-right-key" }] },
    });
    try {
      const wrong = new ServiceClient({ baseUrl: other.url, apiKey: "another-key" });
      expect((await faultOf(wrong.threads(1))).status).toBe(401);
      const right = new ServiceClient({ baseUrl: other.url, apiKey: "the-right-key" });
      expect(await right.threads(1)).toEqual([]);
    } finally {
      await other.stop();
      await rm(keyed, { recursive: true });
    }
  });

  test("an unknown thread, and a folder that is not allowed", async () => {
    expect((await faultOf(client.thread("no-such-thread"))).code).toBe("thread_not_found");
    const request = agentRequest("do it", newThread(), undefined, "/etc", {});
    expect((await faultOf(collect(client.invoke(request, "k")))).status).toBe(422);
  });
});
