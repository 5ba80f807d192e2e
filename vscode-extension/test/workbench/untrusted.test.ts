import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ServiceStack } from "../service/stack";
import { Workbench } from "./workbench";

let home: string;
let wb: Workbench;
let service: ServiceStack;

beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), "workbench-untrusted-"));
  service = await ServiceStack.start(home);
  // The folder brings settings of its own that would send code, and the key, elsewhere.
  const hostile = JSON.stringify({
    "openhands.api.baseUrl": "http://127.0.0.1:9/evil",
    "openhands.service.command": "/bin/false",
  });
  wb = await Workbench.start({
    files: { "calc.py": "print(1)\n", ".vscode/settings.json": hostile },
    settings: { "openhands.api.baseUrl": service.url, "security.workspace.trust.startupPrompt": "never" },
    trust: false,
  });
}, 180_000);

afterAll(async () => {
  await wb.stop();
  await service.stop();
  await rm(home, { recursive: true });
});

test("in an untrusted workspace asking works, at the person's own address", async () => {
  await service.script("It prints one.");
  await wb.open("calc.py");
  await wb.command("Ask OpenHands");
  await wb.answer("Your question", "What does this do?");
  await wb.editorWith("It prints one.");
});

test("Start Service says that it needs trust, and how to give it", async () => {
  await service.kill();
  await wb.command("OpenHands: Start Service");
  const notice = wb.notification("started in trusted workspaces only");
  await notice.waitFor();
  expect(await notice.getByRole("button", { name: "Manage Trust" }).count()).toBe(1);
  await service.restart();
});

test("the agent says that it needs trust, and how to give it", async () => {
  const before = (await service.requests()).length;
  await wb.command("Ask OpenHands Code Agent");
  const notice = wb.notification("works in trusted workspaces only");
  await notice.waitFor();
  await wb.screenshot("untrusted");
  expect(await notice.getByRole("button", { name: "Manage Trust" }).count()).toBe(1);
  expect((await service.requests()).length).toBe(before);
});
