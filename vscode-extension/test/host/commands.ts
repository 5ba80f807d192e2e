import assert from "node:assert/strict";
import * as vscode from "vscode";
import { COMMAND_IDS } from "../../src/core/commandIds";
import {
  BETTER,
  CALC,
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
import { chatStream } from "./service";

const INVOKE = "POST /v1/agents/code/invoke";
const ASK = "POST /v1/contextual_chat/completions";

/** Ask the agent about lines 1 and 2 of alpha's file; its code is better. */
async function agent(): Promise<vscode.TextEditor> {
  theService().agentAnswers({ generated_code: BETTER, explanation: null });
  const editor = await open("alpha", [1, 2]);
  person.types("Accept strings too");
  await command("invokeCodeAgent");
  return editor;
}

export const tests: Tests = {
  "every command of the manifest is there": async () => {
    const there = new Set(await vscode.commands.getCommands(true));
    assert.deepEqual(
      COMMAND_IDS.filter((id) => !there.has(id)),
      [],
    );
  },

  "only the selection is replaced, in one undo step": async () => {
    const { document } = await agent();
    assert.equal(document.getText(), CALC.replace("return a + b", "return int(a) + int(b)"));
    await vscode.commands.executeCommand("undo");
    assert.equal(document.getText(), CALC);
  },

  "the selection, the language and the folder go along": async () => {
    await agent();
    const body = theService().lastBody(INVOKE);
    assert.equal(body.language, "python");
    assert.match(String(body.context), /^Selected in .*calc\.py, lines 1 to 2:\ndef add/);
    assert.match(String(body.project_directory), /\/alpha$/);
    assert.equal(body.stream, true);
    assert.equal("model_quality" in body, false);
  },

  "the agent asks before it changes a file, unless that is left to the service": async () => {
    await agent();
    assert.deepEqual(theService().lastBody(INVOKE).approvals, { "*": "ask" });
    await configure("approvals", "service");
    await agent();
    assert.equal("approvals" in theService().lastBody(INVOKE), false);
  },

  "a document that changed since is not edited unasked": async () => {
    const editor = await open("alpha", [1, 2]);
    const service = theService();
    service.agentAnswers({ generated_code: BETTER });
    person.types("Accept strings too");
    const working = command("invokeCodeAgent");
    await editor.edit((edit) => edit.insert(new vscode.Position(4, 0), "# mine\n"));
    const mine = editor.document.getText();
    await working;
    await told("changed since you asked");
    assert.equal(editor.document.getText(), mine);
    await command("applyProposal", proposal());
    await until("the change", () => editor.document.getText().includes("int(a)"));
    assert.equal(editor.document.getText(), mine.replace("return a + b", "return int(a) + int(b)"));
  },

  "with openhands.apply: review nothing is changed before Apply, and Discard leaves it so": async () => {
    await configure("apply", "review");
    const { document } = await agent();
    await told("Apply the agent's change to calc.py?");
    assert.equal(document.getText(), CALC);
    await command("discardProposal", proposal());
    assert.deepEqual(
      tabs().filter((label) => label.includes("proposed change")),
      [],
    );
    assert.equal(document.getText(), CALC);
  },

  "text that is not there any more is not looked for elsewhere": async () => {
    const editor = await open("alpha", [1, 2]);
    theService().agentAnswers({ generated_code: BETTER });
    person.types("Accept strings too");
    const working = command("invokeCodeAgent");
    await editor.edit((edit) => edit.delete(new vscode.Range(0, 0, 2, 0)));
    const mine = editor.document.getText();
    await working;
    await told("is not there any more");
    assert.equal(editor.document.getText(), mine);
    await until("the code beside", () =>
      vscode.workspace.textDocuments.find((each) => each.getText() === BETTER),
    );
  },

  "without an editor the code is shown in a new document": async () => {
    theService().agentAnswers({ generated_code: "x = 1" });
    person.types("Write something");
    person.picks("alpha");
    await command("invokeCodeAgent");
    await until("the code", () => vscode.workspace.textDocuments.find((each) => each.getText() === "x = 1"));
  },

  "an answer is written beside: no focus, no unsaved work, no remote images": async () => {
    theService().on(ASK, (_, response) =>
      chatStream(response, [{ content: "It **adds**.\n\n![track](https://evil.example/x.png)" }]),
    );
    const editor = await open("alpha", [1, 2]);
    person.types("What is it?");
    await command("askOpenHands");
    const whole = "> What is it?\n\nIt **adds**.\n\n[track](https://evil.example/x.png)\n";
    await until("the answer", () => latestAnswer() === whole);
    assert.equal(vscode.window.activeTextEditor?.document.uri.path, editor.document.uri.path);
    assert.deepEqual(
      vscode.workspace.textDocuments.filter((each) => each.isDirty),
      [],
    );
    assert.equal(theService().lastBody(ASK).selected_text, "def add(a, b):\n    return a + b");
    assert.equal(editor.document.getText(), CALC);
  },

  "a box that is closed sends nothing": async () => {
    await open("alpha");
    await command("askOpenHands");
    await command("invokeCodeAgent");
    assert.equal(theService().sent(ASK).length + theService().sent(INVOKE).length, 0);
    assert.deepEqual(person.told, []);
  },
};

function proposal(): vscode.Uri {
  const inputs = vscode.window.tabGroups.all.flatMap((group) => group.tabs.map((tab) => tab.input));
  const diff = inputs.find((input) => input instanceof vscode.TabInputTextDiff);
  assert.ok(diff);
  return diff.modified;
}
