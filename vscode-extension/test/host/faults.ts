import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { createRequire } from "node:module";
import { json, nowhere } from "../wire";
import {
  command,
  configure,
  latestAnswer,
  open,
  person,
  tabs,
  type Tests,
  theService,
  told,
  until,
} from "./editor";
import { chatStream, FakeService } from "./service";

const ASK = "POST /v1/contextual_chat/completions";
const refused = (status: number, message: string, code: string) => (_: unknown, response: ServerResponse) =>
  json(response, status, { error: { message, code } });

/** Ask, and what is told then. */
async function ask(): Promise<(typeof person.told)[number]> {
  await open("alpha");
  person.types("Are you there?");
  await command("askOpenHands");
  return until("a message", () => person.told[0]);
}

async function expectTold(
  answer: Parameters<ReturnType<typeof theService>["on"]>[1],
  said: RegExp,
  buttons: string[],
) {
  theService().on(ASK, answer);
  const { severity, message, buttons: offered } = await ask();
  assert.equal(severity, "error");
  assert.match(message, said);
  assert.deepEqual(offered, buttons);
}

export const tests: Tests = {
  "a service that is away is told with its address and the reason": async () => {
    await configure("service.command", "no-such-command");
    const url = await nowhere();
    await configure("api.baseUrl", url);
    const { message, buttons } = await ask();
    assert.equal(message, `No service answers at ${url} (ECONNREFUSED).`);
    assert.deepEqual(buttons, ["Retry", "Open Settings", "Show Log"]);
    assert.deepEqual(
      tabs().filter((label) => label.startsWith("Answer")),
      [],
    );
  },

  "where the service could be started, that is offered first": async () => {
    await configure("service.command", process.execPath);
    await configure("api.baseUrl", await nowhere());
    assert.deepEqual((await ask()).buttons, ["Start Service", "Retry", "Open Settings"]);
  },

  "what fails is told as text: what looks like a link in it runs no command": () =>
    expectTold(refused(409, "[Busy](command:openhands.allow)", "busy"), /^\[Busy\] \(command:/, ["Show Log"]),

  "401 is told, with a way to give the key": () =>
    expectTold(refused(401, "No.", "unauthorized"), /wants an API key\.$/, ["Set API Key", "Open Settings"]),

  "409 is told in the service's words": () =>
    expectTold(
      refused(409, "Another run has this thread", "thread_busy"),
      /^Another run has this thread\.$/,
      ["Show Log"],
    ),

  "500 is told, with Retry": () =>
    expectTold(refused(500, "The service failed.", "internal"), /^The service failed\.$/, [
      "Retry",
      "Show Log",
    ]),

  "what is not JSON is told as what it is": () =>
    expectTold(
      (_, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.end("data: {nonsense\n\n");
      },
      /is not the service, or another version of it/,
      ["Open Settings", "Show Log"],
    ),

  "a stream that is cut is told, and what came stays": async () => {
    await expectTold(
      (_, response) => {
        chatStream(response, [{ content: "half an" }], false);
        setTimeout(() => response.destroy(), 50);
      },
      /^The connection to the service broke off\.$/,
      ["Retry", "Show Log"],
    );
    const rest = "half an\n\n*The answer ends here: it was not finished.*";
    await until("the answer", () => latestAnswer()?.includes(rest));
  },

  "Retry does it again": async () => {
    let asked = 0;
    theService().on(ASK, (_, response) => {
      asked += 1;
      if (asked === 1) json(response, 503, { error: { message: "Later.", code: "overloaded" } });
      else chatStream(response, [{ content: "Yes." }]);
    });
    person.presses("Retry");
    await ask();
    await until("the answer", () => latestAnswer()?.includes("Yes."));
    assert.equal(person.told.length, 1);
  },

  "an address that is none is told, with the settings": async () => {
    await configure("api.baseUrl", "localhost:8000");
    const { message, buttons } = await ask();
    assert.match(message, /must begin with http/);
    assert.deepEqual(buttons, ["Open Settings"]);
  },

  "a key goes to the origin that it was given for, and nowhere else": async () => {
    const keys = (service: FakeService): unknown[] =>
      service.sent("GET /").map(({ headers }) => headers.authorization);
    const other = await FakeService.start();
    other.reset();
    try {
      person.types("the-key");
      await command("setApiKey");
      await command("checkConnection");
      assert.deepEqual(keys(theService()), ["Bearer the-key"]);
      await configure("api.baseUrl", other.url);
      await command("checkConnection");
      assert.deepEqual(keys(other), [undefined]);
    } finally {
      other.stop();
    }
    await configure("api.baseUrl", theService().url);
    await command("clearApiKey");
    await command("checkConnection");
    assert.deepEqual(keys(theService()), ["Bearer the-key", undefined]);
  },

  "Check Connection says what is there": async () => {
    await command("checkConnection");
    assert.equal((await told("Connected")).message, "Connected to agent-service 1.2.3, 1 model.");
  },

  "an activation that fails is shown": async () => {
    const { activate } = createRequire(__filename)("./extension.js") as {
      activate: (context: object) => void;
    };
    assert.throws(() => activate({}));
    assert.match((await told("could not start")).message, /^OpenHands AI Assistant could not start: /);
  },
};
