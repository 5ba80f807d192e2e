import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { json, nowhere } from "../wire";
import { command, configure, person, tabs, type Tests, theService, told, until } from "./editor";

/** With a command in place of the service's, which is this shell script; `$0.done` is a file beside it. */
async function withCommand(script: string, test: (done: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), "host-command-"));
  const file = path.join(folder, "service");
  try {
    await writeFile(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    await configure("service.command", file);
    await test(`${file}.done`);
  } finally {
    await rm(folder, { recursive: true });
  }
}

export const tests: Tests = {
  "a service that does not start is told with the reason": () =>
    withCommand("echo 'The address is taken.' >&2; exit 3", async () => {
      await configure("api.baseUrl", await nowhere());
      await command("startService");
      const { message, buttons } = await told("did not start");
      assert.equal(message, "The service did not start: it ended with code 3. The address is taken.");
      assert.deepEqual(buttons, ["Retry", "Show Log"]);
    }),

  "a command that is not there is told with how to install it": async () => {
    await configure("service.command", "no-such-command");
    await configure("api.baseUrl", await nowhere());
    person.presses("How to Install");
    await command("startService");
    assert.deepEqual((await told("was not found")).buttons, ["How to Install", "Open Settings"]);
    await until("the walkthrough", () => tabs().some((label) => /Welcome|Walkthrough/.test(label)));
  },

  "a service without a model is told, and the embedded one installed after a yes": () =>
    withCommand('echo "Fetching $1 $2 $3"; touch "$0.done"', async (done) => {
      theService().on("GET /v1/models", (_, response) =>
        json(response, 200, { data: [{ id: "auto" }, ...(existsSync(done) ? [{ id: "local/m" }] : [])] }),
      );
      person.presses("Install Embedded Model", "Download");
      await command("checkConnection");
      const { severity, message, buttons } = await told("no model yet");
      assert.equal(severity, "warning");
      assert.match(message, /^Connected to agent-service 1\.2\.3, which has no model yet\./);
      assert.deepEqual(buttons, ["Install Embedded Model"]);
      assert.deepEqual((await told("Download the embedded model?")).buttons, ["Download"]);
      assert.equal((await told("1 model")).message, "Connected to agent-service 1.2.3, 1 model.");
    }),

  "a model that could not be installed is told with the last word on it": () =>
    withCommand('echo "No space is left."; exit 1', async () => {
      person.presses("Download");
      await command("installModel");
      const { message, buttons } = await told("was not installed");
      assert.equal(message, "The model was not installed: No space is left.");
      assert.deepEqual(buttons, ["Retry", "Show Log"]);
    }),

  "nothing is downloaded without a yes": () =>
    withCommand('touch "$0.done"', async (done) => {
      await command("installModel");
      assert.equal(existsSync(done), false);
    }),

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
