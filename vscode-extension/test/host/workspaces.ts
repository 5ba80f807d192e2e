import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { command, configure, open, person, type Tests, theService, told } from "./editor";

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

  "Start Service starts it in a folder of its own, without the editor's Python settings": async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "host-start-"));
    const { port } = new URL(theService().url);
    theService().stop();
    const script = path.join(folder, "service");
    const about = JSON.stringify({
      name: "agent-service",
      version: "1",
      data: [],
      status: "ok",
      threads: [],
    });
    await writeFile(
      script,
      `#!${process.execPath}
require("node:fs").writeFileSync("${folder}/seen", JSON.stringify([process.cwd(), process.env.PYTHONPATH ?? null, process.argv.slice(2)]));
require("node:http").createServer((_, response) => response.setHeader("content-type", "application/json").end('${about}')).listen(${port}, "127.0.0.1");
setTimeout(() => process.exit(), 60_000); // should the test fail to stop it
`,
      { mode: 0o755 },
    );
    process.env.PYTHONPATH = "/somewhere/else";
    try {
      await configure("service.command", script);
      await command("startService");
      await told("Connected to agent-service 1");
      const seen = JSON.parse(await readFile(path.join(folder, "seen"), "utf8")) as [
        string,
        unknown,
        string[],
      ];
      const folders = vscode.workspace.workspaceFolders?.map(({ uri }) => uri.fsPath) ?? [];
      assert.ok(folders.every((each) => !seen[0].startsWith(each)));
      assert.equal(seen[1], null);
      assert.deepEqual(seen[2].slice(0, 5), ["serve", "--host", "127.0.0.1", "--port", port]);
      assert.deepEqual(
        seen[2].filter((each) => each.startsWith("/")),
        folders,
      );
      await command("stopService");
      await told("The service was stopped.");
    } finally {
      delete process.env.PYTHONPATH;
      await rm(folder, { recursive: true });
    }
  },
};
