import assert from "node:assert/strict";
import * as vscode from "vscode";
import { events, finished, json, started } from "../wire";
import { CALC, command, open, person, tabs, type Tests, theService, told, until } from "./editor";

const RESUME = "POST /v1/agents/resume";
const ASKED = "May the agent change calc.py?";
const WANTED = "calc.py (wanted by the agent)";
const DIFF = `--- a/calc.py
+++ b/calc.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a + b
+    return b + a
`;

/** A run that wants to change alpha's file and waits for an answer; then it is done. */
async function wantsChange(): Promise<vscode.TextEditor> {
  const service = theService();
  const editor = await open("alpha", [1, 2]);
  const project = vscode.workspace.getWorkspaceFolder(editor.document.uri)?.uri.fsPath;
  const request = { tool_call_id: "call-1", question_for_human: ASKED, kind: "approval", preview: DIFF };
  const end = (thread_id: string, fields: object): object => ({
    ...finished,
    thread_id,
    response: { ...finished.response, thread_id, ...fields },
  });
  service.on("POST /v1/agents/code/invoke", ({ body }, response) => {
    const { thread_id } = JSON.parse(body) as { thread_id: string };
    const thread = { thread_id, title: "Turn it around", project_directory: project };
    const be = (status: string, fields: object): void => {
      service.threadIs({ ...thread, status, ...fields });
    };
    be("requires_human_input", { pending_requests: [request] });
    service.on(RESUME, (_, answered) => {
      be("idle", { pending_requests: [] });
      const explanation = "The sum is turned around. That is all.";
      const files_changed = [{ path: "calc.py", action: "modified", additions: 1, deletions: 1 }];
      events(answered, [{ ...started, thread_id }, end(thread_id, { explanation, files_changed })]);
    });
    service.on(`GET /v1/agents/threads/${thread_id}/diff`, (_, shown) => json(shown, 200, { diff: DIFF }));
    const waiting = { agent_status: "requires_human_input", pending_requests: [request] };
    events(response, [{ ...started, thread_id }, end(thread_id, waiting)]);
  });
  person.types("Turn it around");
  await command("invokeCodeAgent");
  return editor;
}

const wanted = (): Promise<vscode.Tab> =>
  until("the wanted change", () =>
    vscode.window.tabGroups.all.flatMap((group) => group.tabs).find(({ label }) => label === WANTED),
  );

const gone = (): Promise<boolean> => until("the wanted change to go", () => !tabs().includes(WANTED));

const answers = (): unknown[] =>
  theService()
    .sent(RESUME)
    .map(({ body }) => (JSON.parse(body) as { human_response: string }).human_response);

export const tests: Tests = {
  "a wanted change is in view beside, without the focus, and is decided there": async () => {
    const { document } = await wantsChange();
    assert.deepEqual((await told(ASKED)).buttons, ["Allow", "Refuse", "Refuse with a Reason..."]);
    const { input } = await wanted();
    assert.ok(input instanceof vscode.TabInputTextDiff);
    assert.equal(vscode.window.activeTextEditor?.document, document);
    const shown = await vscode.workspace.openTextDocument(input.modified);
    assert.equal(shown.getText(), CALC.replace("a + b", "b + a"));
    assert.deepEqual(answers(), []);
    await command("allow", input.modified);
    assert.deepEqual(answers(), ["yes"]);
    await gone();
  },

  "the notification's button decides too": async () => {
    person.presses("Refuse");
    await wantsChange();
    await until("the answer", () => answers().length > 0);
    assert.deepEqual(answers(), ["no"]);
    await gone();
  },

  "what is closed unanswered comes back from the question, and is decided once": async () => {
    await wantsChange();
    await told(ASKED);
    await vscode.window.tabGroups.close(await wanted());
    person.told.length = 0;
    await command("answerQuestion");
    await told(ASKED);
    const { input } = await wanted();
    assert.ok(input instanceof vscode.TabInputTextDiff);
    await Promise.all([command("refuse", input.modified), command("allow", input.modified)]);
    assert.deepEqual(answers(), ["no"]);
  },

  "a change that was decided elsewhere goes out of view": async () => {
    await wantsChange();
    await wanted();
    theService().threadIs({ ...theService().thread, status: "idle", pending_requests: [] });
    await command("refreshThreads");
    await gone();
    assert.deepEqual(answers(), []);
  },

  "at the end the first sentence is told, the changes are in view, and the focus stays": async () => {
    person.presses("Allow");
    const { document } = await wantsChange();
    const { buttons } = await told("The agent finished. The sum is turned around.");
    assert.deepEqual(buttons, ["Show Explanation"]);
    const beside = (): string | undefined => vscode.window.tabGroups.all[1]?.activeTab?.label;
    assert.equal(beside(), "Changes by the agent.diff"); // the file is not changed, so the diff does not fit it
    assert.equal(vscode.window.tabGroups.activeTabGroup.viewColumn, 1);
    assert.equal(vscode.window.activeTextEditor?.document, document);
  },

  "Show Explanation shows it, and the focus stays": async () => {
    person.presses("Allow", "Show Explanation");
    await wantsChange();
    await until(
      "the explanation",
      () => vscode.window.tabGroups.all[1]?.activeTab?.label === "Explanation.md",
    );
    assert.deepEqual(
      tabs().filter((label) => label === "Explanation.md"),
      ["Explanation.md"],
    );
    assert.equal(vscode.window.tabGroups.activeTabGroup.viewColumn, 1);
  },
};
