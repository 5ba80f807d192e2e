import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { PYTHON, ROOT, ServiceStack } from "../service/stack";
import { asks, CALC } from "./flow";
import { Workbench } from "./workbench";

let home: string;
let wb: Workbench;
/** Does not run: the editor starts the service, with the configuration of this one. */
let stack: ServiceStack;
let keyed: ServiceStack;

beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), "workbench-start-"));
  const agent = { allowed_roots: [tmpdir()] };
  stack = await ServiceStack.prepare(path.join(home, "started"), { agent });
  const command = path.join(home, "agent-service");
  const config = path.join(home, "started", "config.yaml");
  const script = `#!/bin/sh
PYTHONPATH='${ROOT}' HOME='${home}' exec '${PYTHON}' -m agent_service "$@" --config '${config}'
`;
  await writeFile(command, script);
  await chmod(command, 0o755);
  const server = { api_keys: [{ name: "me", key: "the-right-key" }] };
  [keyed, wb] = await Promise.all([
    ServiceStack.start(path.join(home, "keyed"), { server }),
    Workbench.start({
      files: { "calc.py": CALC },
      settings: { "openhands.api.baseUrl": stack.url, "openhands.service.command": command },
    }),
  ]);
});

afterAll(async () => {
  await wb.stop();
  await stack.stop();
  await keyed.stop();
  await rm(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") await wb.screenshot(`fail-${task.name.replace(/\W+/g, "-")}`);
  await wb.page.keyboard.press("Escape");
  await wb.clearNotifications();
});

const step = (title: string) => wb.page.locator(".getting-started-step", { hasText: title });

test("the walkthrough leads from an editor without a service to code that an agent changed", async () => {
  await wb.command("Welcome: Open Walkthrough...");
  await wb.pick("", "OpenHands AI Assistant");
  await step("Connect to the service").waitFor();
  await wb.screenshot("walkthrough");
  await step("Connect to the service").getByText("Start Service").click();
  await wb.notification("Connected to agent-service").waitFor();
  await step("Connect to the service").locator(".codicon-getting-started-step-checked").waitFor();
  await wb.screenshot("walkthrough-connected");
  await wb.clearNotifications();

  const content = CALC.replace("a + b", "int(a) + int(b)");
  await stack.script(
    "It adds two numbers.",
    asks("Which type?", ["int", "float"]),
    { calls: [["write_file", { filepath: "calc.py", content }]] },
    "Strings are accepted too now.",
  );
  const begin = async (title: string, button: string): Promise<void> => {
    await wb.page.locator(".tab", { hasText: "Welcome" }).click();
    await step(title).click();
    await step(title).getByText(button, { exact: true }).click();
  };
  await wb.open("calc.py");
  await wb.select(1, 2);
  await begin("Ask about your code", "Ask OpenHands");
  await wb.answer("Your question about the selection", "What does this do?");
  await wb.editorWith("It adds two numbers.");
  await wb.screenshot("walkthrough-ask");
  await wb.focusGroup(1);
  await begin("Have it changed", "Ask OpenHands Code Agent");
  await wb.answer("What should become of the selected code?", "Accept strings too");
  await wb.pick("Which type?", "int");
  await wb.notification("May the agent change calc.py?").waitFor();
  await wb.page.locator(".monaco-diff-editor .line-insert").first().waitFor();
  await wb.screenshot("walkthrough-approval");
  const onDisk = (): Promise<string> => readFile(path.join(wb.folder, "calc.py"), "utf8");
  expect(await onDisk()).toBe(CALC);
  await wb.press("May the agent change calc.py?", "Allow");
  await wb.notification("Strings are accepted too now.").waitFor();
  await wb.screenshot("walkthrough-changed");
  expect(await onDisk()).toBe(content);
});

test("a service that is down is told in a sentence with the ways out, and started again", async () => {
  await wb.command("OpenHands: Stop Service");
  await wb.notification("The service was stopped.").waitFor();
  await wb.clearNotifications();
  await stack.script("Yes, I am here.");
  await wb.command("Ask OpenHands");
  await wb.answer("Your question", "Are you there?");
  const notice = wb.notification("No service answers at");
  await notice.waitFor();
  await wb.screenshot("service-down");
  expect(await notice.getByRole("button").allTextContents()).toEqual(
    expect.arrayContaining(["Start Service", "Retry", "Open Settings"]),
  );
  await wb.press("No service answers at", "Start Service");
  await wb.editorWith("Yes, I am here.");
  await wb.command("OpenHands: Stop Service");
  await wb.notification("The service was stopped.").waitFor();
});

test("a wrong key is told, and the right one is kept in secret and used", async () => {
  await wb.changeSettings({ "openhands.api.baseUrl": keyed.url });
  const check = (): Promise<void> => wb.command("OpenHands: Check Connection");
  await check();
  await wb.notification(`${keyed.url} wants an API key`).waitFor();
  await wb.clearNotifications();
  await wb.command("OpenHands: Set API Key");
  await wb.answer("The key for", "a-wrong-key");
  await check();
  await wb.notification("does not accept the API key").waitFor();
  await wb.screenshot("wrong-key");
  await wb.press("does not accept the API key", "Set API Key");
  await wb.answer("The key for", "the-right-key");
  await wb.notification("Connected to agent-service").waitFor();
  await wb.screenshot("connected");
});

test("in a virtual workspace asking works, and that the agent does not is said", async () => {
  // The editor's own memory: files that no service could reach.
  await wb.openFolder("tmp:/");
  await wb.command("Ask OpenHands Code Agent");
  await wb.notification("this workspace is virtual").waitFor();
  await wb.screenshot("virtual");
  await wb.press("this workspace is virtual", "Ask OpenHands");
  await wb.quickInput.filter({ hasText: "Your question" }).waitFor();
});
