import assert from "node:assert/strict";
import * as vscode from "vscode";
import { command, open, person, type Tests, theService } from "./editor";

const INVOKE = "POST /v1/agents/code/invoke";

async function invoke(): Promise<Record<string, unknown>> {
  theService().agentAnswers({ explanation: "Done." });
  person.types("do it");
  await command("invokeCodeAgent");
  return theService().lastBody(INVOKE);
}

export const tests: Tests = {
  "the agent works in the folder of the active file": async () => {
    await open("alpha");
    assert.match(String((await invoke()).project_directory), /\/alpha$/);
    await open("beta");
    assert.match(String((await invoke()).project_directory), /\/beta$/);
    assert.deepEqual(person.offered, []);
  },

  "without an active file it is asked which folder": async () => {
    person.picks("beta");
    assert.match(String((await invoke()).project_directory), /\/beta$/);
    assert.deepEqual(person.offered, [["alpha", "beta"]]);
  },

  "a list that is closed sends nothing, and says nothing": async () => {
    assert.deepEqual(await invoke(), {});
    assert.deepEqual(person.offered, [["alpha", "beta"]]);
    assert.deepEqual(person.told, []);
  },

  "a document that is in no file gives no folder away": async () => {
    const document = await vscode.workspace.openTextDocument({ content: "x = 1\n", language: "python" });
    await vscode.window.showTextDocument(document);
    person.picks("alpha");
    assert.match(String((await invoke()).project_directory), /\/alpha$/);
  },
};
