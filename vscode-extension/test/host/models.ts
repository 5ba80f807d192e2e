import assert from "node:assert/strict";
import * as vscode from "vscode";
import { json } from "../wire";
import { type Tests, theService, until } from "./editor";
import { chatStream } from "./service";

const CHAT = "POST /v1/chat/completions";
const User = (content: string | vscode.LanguageModelToolResultPart[]): vscode.LanguageModelChatMessage =>
  vscode.LanguageModelChatMessage.User(content);
const TOOL = {
  name: "read",
  description: "Reads a file",
  inputSchema: { type: "object", properties: { path: { type: "string" } } },
};

async function auto(): Promise<vscode.LanguageModelChat> {
  const [model] = await vscode.lm.selectChatModels({ vendor: "openhands", id: "auto" });
  assert.ok(model);
  return model;
}

async function parts(stream: AsyncIterable<unknown>): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const part of stream) all.push(part);
  return all;
}

export const tests: Tests = {
  "the pool and its aliases are offered as models": async () => {
    const names = (await vscode.lm.selectChatModels({ vendor: "openhands" })).map(({ name }) => name);
    assert.ok(names.includes("OpenHands"), names.join());
  },

  "a model's answer comes in pieces": async () => {
    theService().on(CHAT, (_, response) => chatStream(response, [{ content: "Hel" }, { content: "lo" }]));
    const reply = await (await auto()).sendRequest([User("hi")]);
    assert.equal((await parts(reply.text)).join(""), "Hello");
    assert.deepEqual(theService().lastBody(CHAT).messages, [{ role: "user", content: "hi" }]);
  },

  "tools are offered, called, and their results go back": async () => {
    const pieces = [
      { tool_calls: [{ index: 0, id: "c1", function: { name: "read", arguments: '{"path": ' } }] },
      { tool_calls: [{ index: 0, function: { arguments: '"a.py"}' } }] },
    ];
    theService().on(CHAT, (_, response) => chatStream(response, pieces));
    const model = await auto();
    const reply = await model.sendRequest([User("look")], { tools: [TOOL] });
    const [call] = await parts(reply.stream);
    assert.ok(call instanceof vscode.LanguageModelToolCallPart);
    assert.deepEqual([call.callId, call.name, call.input], ["c1", "read", { path: "a.py" }]);
    const { inputSchema: parameters, ...named } = TOOL;
    const sent = theService().lastBody(CHAT);
    assert.deepEqual(sent.tools, [{ type: "function", function: { ...named, parameters } }]);

    theService().on(CHAT, (_, response) => chatStream(response, [{ content: "It is empty." }]));
    const result = new vscode.LanguageModelToolResultPart("c1", [new vscode.LanguageModelTextPart("empty")]);
    const history = [User("look"), vscode.LanguageModelChatMessage.Assistant([call]), User([result])];
    await parts((await model.sendRequest(history, { tools: [TOOL] })).text);
    assert.deepEqual(theService().lastBody(CHAT).messages, [
      { role: "user", content: "look" },
      {
        role: "assistant",
        content: "",
        tool_calls: [
          { id: "c1", type: "function", function: { name: "read", arguments: '{"path":"a.py"}' } },
        ],
      },
      { role: "tool", tool_call_id: "c1", content: "empty" },
    ]);
  },

  "a refusal reaches who asked, in a sentence": async () => {
    theService().on(CHAT, (_, response) =>
      json(response, 503, { error: { message: "No model is up", code: "no_provider" } }),
    );
    const answer = (async () => parts((await (await auto()).sendRequest([User("hi")])).text))();
    await assert.rejects(answer, /No model is up\./);
  },

  "who cancels an answer ends it at the service too": async () => {
    let closed = false;
    theService().on(CHAT, (_, response) => {
      response.on("close", () => (closed = true));
      chatStream(response, [{ content: "endless" }], false);
    });
    const cancel = new vscode.CancellationTokenSource();
    const reply = await (await auto()).sendRequest([User("hi")], {}, cancel.token);
    for await (const piece of reply.text) {
      assert.equal(piece, "endless");
      cancel.cancel();
      break;
    }
    await until("the end", () => closed);
  },
};
