import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { PYTHON, ROOT, ServiceStack, type Step } from "../service/stack";
import { freePort, Workbench } from "./workbench";

const CALC = "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n";
const ADD = "```python\ndef add(a, b):\n    return int(a) + int(b)\n```\n";
const FILES = [
  "ask",
  "insert",
  "replace",
  "options",
  "tree",
  "reload",
  "crash",
  "approve",
  "cancel",
  "down",
  "typing",
  "notes",
  "chat",
];

let home: string;
let wb: Workbench;
let service: ServiceStack;
let shot = 0;

beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), "workbench-service-"));
  const files = Object.fromEntries(FILES.map((name) => [`${name}.py`, CALC]));
  // The project's place is known only once the workbench is up.
  const agent = { allowed_roots: [tmpdir()], approvals: { write_file: "ask" } };
  service = await ServiceStack.start(home, { agent });
  wb = await Workbench.start({
    files,
    settings: { "openhands.api.baseUrl": service.url, "chat.allowAnonymousAccess": true },
  });
}, 180_000);

afterAll(async () => {
  await wb.stop();
  await service.stop();
  await rm(home, { recursive: true });
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") await wb.screenshot(`fail-${task.name.replace(/\W+/g, "-")}`);
  await wb.page.keyboard.press("Escape");
  await wb.closeEditors();
  await withdrawQuestions();
  await wb.clearNotifications();
});

interface Thread {
  thread_id: string;
  human_input_request: { tool_call_id: string } | null;
}

const api = async <T>(route: string, body?: object): Promise<T> => {
  const headers = { "Content-Type": "application/json" };
  const init = body ? { method: "POST", headers, body: JSON.stringify(body) } : {};
  return (await (await fetch(`${service.url}/v1/agents/${route}`, init)).json()) as T;
};

/** What a test that failed left open would be in the way of the next one. */
const withdrawQuestions = async (): Promise<void> => {
  const { threads } = await api<{ threads: Thread[] }>("threads?status=requires_human_input");
  for (const { thread_id } of threads) await api(`threads/${thread_id}/cancel`, {});
};

const picture = (name: string): Promise<void> => wb.screenshot(`${String(++shot).padStart(2, "0")}-${name}`);
const onDisk = (name: string): Promise<string> => readFile(path.join(wb.folder, name), "utf8");
const asks = (question: string, options?: string[]): Step => ({
  calls: [["ask_human_for_input", { question, ...(options && { options }) }]],
});
const statusBar = (text: string) => wb.page.locator(".statusbar-item[id*='openhands']", { hasText: text });
const row = (text: string) => wb.page.locator(".pane-body .monaco-list-row", { hasText: text });

/** Select the function in the file, and ask the agent. */
const askAgent = async (file: string, instruction: string): Promise<void> => {
  await wb.open(file);
  await wb.select(1, 2);
  await wb.command("Ask OpenHands Code Agent");
  await wb.answer("What should become of the selected code?", instruction);
};

const showThreads = async (): Promise<void> => {
  await wb.command("OpenHands: Focus on Agent threads View");
};

test("ask: the answer is written beside, and nothing is changed", async () => {
  await service.script("It **adds** two numbers.\n\n![track](https://evil.example/x.png)\n");
  await wb.open("ask.py");
  await wb.select(1, 2);
  await wb.command("Ask OpenHands");
  await wb.answer("Your question about the selection", "What does this do?");
  const answer = await wb.editorWith("adds");
  expect(answer).toContain("> What does this do?");
  expect(answer).not.toContain("![track]");
  await picture("ask");
  const content = (await service.requests()).at(-1)?.messages[0]?.content;
  expect(content).toContain("Selected text:\ndef add(a, b):\n    return a + b");
  expect(await wb.page.locator(".tab.dirty").count()).toBe(0);
});

test("agent without a selection: code goes in at the cursor", async () => {
  await service.script("```python\nimport math\n```");
  await wb.open("insert.py");
  await wb.goTo(1);
  await wb.command("Ask OpenHands Code Agent");
  await wb.answer("What should the agent do?", "import math");
  await wb.editorWith("import math");
  await wb.save();
  expect(await onDisk("insert.py")).toBe(`import math\n${CALC}`);
});

test("agent with a selection: only that is replaced, in one undo step, and explained beside", async () => {
  await service.script(`Strings are accepted too now.\n${ADD}`);
  await askAgent("replace.py", "Accept strings too");
  await wb.editorWith("return int(a) + int(b)");
  await wb.editorWith("Strings are accepted too now.");
  await picture("agent");
  await wb.save();
  expect(await onDisk("replace.py")).toBe(CALC.replace("return a + b", "return int(a) + int(b)"));
  const request = (await service.requests()).at(-1);
  expect(request?.messages.at(-1)?.content).toContain(
    "Selected in replace.py, lines 1 to 2:\ndef add(a, b):",
  );
  await wb.page.keyboard.press("Control+Z");
  await wb.editorWith("return a + b");
  await wb.save();
  expect(await onDisk("replace.py")).toBe(CALC);
});

test("a question with options is a pick list, and any other answer is taken too", async () => {
  await service.script(
    asks("Which type should it return?", ["int", "float"]),
    asks("Really?", ["yes", "no"]),
    ADD,
  );
  await askAgent("options.py", "Accept strings too");
  await wb.quickInput.filter({ hasText: "Which type should it return?" }).waitFor();
  await picture("question");
  await wb.pick("Which type should it return?", "int");
  await wb.pick("Really?", "Other...");
  await wb.answer("Really?", "as sure as can be");
  await wb.editorWith("return int(a) + int(b)");
  const sent = JSON.stringify((await service.requests()).at(-1)?.messages);
  expect(sent).toContain("as sure as can be");
});

test("a closed question stays, and is answered from the tree", async () => {
  await service.script(asks("Round or cut?"), ADD);
  await askAgent("tree.py", "Return an integer");
  await wb.quickInput.filter({ hasText: "Round or cut?" }).locator("input").first().fill("round, I thi");
  await wb.page.keyboard.press("Escape");
  await statusBar("1 question").waitFor();
  await showThreads();
  await row("Round or cut?").waitFor();
  await picture("tree");
  await row("Round or cut?").click();
  const box = wb.quickInput.filter({ hasText: "Round or cut?" });
  await box.waitFor();
  expect(await box.locator("input").first().inputValue()).toBe("round, I thi");
  await wb.answer("Round or cut?", "round");
  await wb.editorWith("return int(a) + int(b)");
  await statusBar("1 question").waitFor({ state: "detached" });
  await row("Done").waitFor();
});

test("a question answered elsewhere disappears here", async () => {
  await service.script(asks("Tabs or blanks?"), "Done.");
  await askAgent("tree.py", "Indent it");
  await wb.quickInput.filter({ hasText: "Tabs or blanks?" }).waitFor();
  const { threads } = await api<{ threads: Thread[] }>("threads?limit=1");
  const thread = await api<Thread>(`threads/${threads[0]?.thread_id ?? ""}`);
  await api("resume", {
    thread_id: thread.thread_id,
    tool_call_id: thread.human_input_request?.tool_call_id,
    human_response: "blanks",
  });
  await wb.quickInput.filter({ hasText: "Tabs or blanks?" }).waitFor({ state: "hidden" });
  await wb.notification("The agent finished").waitFor();
});

test("a question outlives the window", async () => {
  await service.script(asks("Which name?"), ADD);
  await askAgent("reload.py", "Rename it");
  await wb.quickInput.filter({ hasText: "Which name?" }).waitFor();
  await wb.reload();
  await statusBar("1 question").waitFor();
  await wb.notification("The agent asks: Which name?").waitFor();
  await picture("after-reload");
  await wb.press("The agent asks: Which name?", "Answer");
  await wb.answer("Which name?", "plus");
  await wb.editorWith("return int(a) + int(b)");
});

test("a question outlives the service", async () => {
  await service.script(asks("Python 2 or 3?"), ADD);
  await askAgent("crash.py", "Modernise it");
  await wb.quickInput.filter({ hasText: "Python 2 or 3?" }).waitFor();
  await service.kill();
  await wb.answer("Python 2 or 3?", "3");
  await wb.notification("No service answers").waitFor();
  await picture("service-killed");
  await service.restart();
  await wb.press("No service answers", "Retry");
  await wb.editorWith("return int(a) + int(b)");
  const sent = JSON.stringify((await service.requests()).at(-1)?.messages);
  expect(sent).toContain('"3"');
});

test("an approval shows the diff, and the change is made after a yes", async () => {
  const content = CALC.replace("a + b", "b + a");
  await service.script(
    { calls: [["write_file", { filepath: "approve.py", content }]] },
    "The sum is turned around.",
  );
  await askAgent("approve.py", "Turn the sum around");
  await wb.quickInput.filter({ hasText: "Allow write_file on approve.py?" }).waitFor();
  await wb.page.locator(".monaco-diff-editor").first().waitFor();
  await picture("approval");
  expect(await onDisk("approve.py")).toBe(CALC);
  await wb.pick("Allow write_file on approve.py?", "Yes, allow it");
  await wb.editorWith("The sum is turned around.");
  await wb.page.locator(".tab", { hasText: "changes by the agent" }).waitFor();
  await picture("changes");
  expect(await onDisk("approve.py")).toBe(content);
});

test("a run is cancelled without a word", async () => {
  await service.script({ text: "too late", hold: "cancel" });
  await askAgent("cancel.py", "Think long");
  await wb.notification("OpenHands agent").waitFor();
  await statusBar("1 agent working").waitFor();
  await picture("running");
  await wb.press("OpenHands agent", "Cancel");
  await wb.notification("OpenHands agent").waitFor({ state: "detached" });
  await statusBar("OpenHands").waitFor();
  expect(await wb.page.locator(".notifications-toasts .notification-list-item").count()).toBe(0);
});

test("typing goes on undisturbed while the answer arrives, and a changed document is not edited unasked", async () => {
  await service.script(
    { calls: [["ask_human_for_input", { question: "Shall I go on?" }]], hold: "typing" },
    ADD,
  );
  await askAgent("typing.py", "Accept strings too");
  await wb.notification("OpenHands agent").waitFor();
  await wb.page.keyboard.press("Control+End");
  await wb.page.keyboard.type("# my own line\n");
  await wb.open("notes.py");
  await wb.page.keyboard.press("Control+End");
  const typed = "# a long note that is typed while the agent asks\n";
  for (const [index, letter] of typed.split("").entries()) {
    if (index === 5) await service.release("typing");
    await wb.page.keyboard.type(letter, { delay: 40 });
  }
  await wb.notification("The agent asks: Shall I go on?").waitFor();
  await wb.save();
  expect(await onDisk("notes.py")).toBe(CALC + typed);
  await picture("undisturbed");
  await wb.press("The agent asks: Shall I go on?", "Answer");
  await wb.answer("Shall I go on?", "yes");
  await wb.notification("typing.py changed since you asked").waitFor();
  await wb.page.locator(".monaco-diff-editor").first().waitFor();
  await picture("review");
  await wb.press("typing.py changed since you asked", "Apply");
  await wb.page.locator(".monaco-diff-editor").first().waitFor({ state: "detached" });
  await wb.focusGroup(1);
  await wb.page.locator(".editor-group-container.active .tab", { hasText: "typing.py" }).click();
  await wb.save();
  expect(await onDisk("typing.py")).toBe(`${CALC.replace("a + b", "int(a) + int(b)")}# my own line\n`);
});

test("a service that is down is told in a sentence, with the ways out", async () => {
  await service.kill();
  await wb.open("down.py");
  await wb.command("Ask OpenHands");
  await wb.answer("Your question", "Are you there?");
  const notice = wb.notification("No service answers at");
  await notice.waitFor();
  await picture("service-down");
  expect(await notice.getByRole("button", { name: "Open Settings" }).count()).toBe(1);
  await service.restart();
  await service.script("Yes, I am here.");
  await wb.press("No service answers at", "Retry");
  await wb.editorWith("Yes, I am here.");
});

test("in the editor's own chat, the service's models answer plain questions too", async () => {
  // The editor asks a model for a title as well.
  await service.script(...Array<Step>(5).fill("I am the pool."));
  await wb.chat("Who are you?");
  await wb.chatAnswer("I am the pool.").waitFor();
  await picture("model");
  expect((await service.requests()).some((request) => request.tools !== undefined)).toBe(true);
});

test("in the editor's own chat, @openhands answers with the service's models and asks with buttons", async () => {
  await service.script("It **adds** two numbers.");
  await wb.open("chat.py");
  await wb.select(1, 2);
  await wb.chat("@openhands /ask What does this do?");
  await wb.chatAnswer("adds two numbers").waitFor();
  await service.script(asks("Which type should it return?", ["int", "float"]), ADD);
  await wb.chat("/agent Accept strings too"); // the participant stays addressed
  await wb.chatAnswer("Which type should it return?").waitFor();
  await picture("chat");
  await wb.page.locator(".interactive-session").getByRole("button", { name: "int", exact: true }).click();
  await wb.editorWith("return int(a) + int(b)");
});

test("a wrong key is told, and the right one is kept in secret and used", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "workbench-keyed-"));
  const keyed = await ServiceStack.start(folder, {
    server: { api_keys: [{ name: "me", key: "the-right-key" }] },
  });
  try {
    await wb.configure({ "openhands.api.baseUrl": keyed.url });
    await wb.reload();
    const check = (): Promise<void> => wb.command("OpenHands: Check Connection");
    await check();
    await wb.notification(`${keyed.url} wants an API key`).waitFor();
    await wb.clearNotifications();
    await wb.command("OpenHands: Set API Key");
    await wb.answer("The key for", "a-wrong-key");
    await check();
    await wb.notification("does not accept the API key").waitFor();
    await picture("wrong-key");
    await wb.press("does not accept the API key", "Set API Key");
    await wb.answer("The key for", "the-right-key");
    await wb.notification("Connected to agent-service").waitFor();
    await picture("connected");
  } finally {
    await keyed.stop();
    await rm(folder, { recursive: true });
  }
});

test("the service is started from the editor, and stopped again", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "workbench-start-"));
  const command = path.join(folder, "agent-service");
  await writeFile(
    command,
    `#!/bin/sh\nPYTHONPATH='${ROOT}' HOME='${folder}' exec '${PYTHON}' -m agent_service "$@"\n`,
  );
  await chmod(command, 0o755);
  const baseUrl = `http://127.0.0.1:${await freePort()}`;
  await wb.configure({ "openhands.api.baseUrl": baseUrl, "openhands.service.command": command });
  await wb.reload();
  await wb.command("OpenHands: Check Connection");
  await wb.press("No service answers at", "Start Service");
  await wb.notification(`at ${baseUrl}`).filter({ hasText: "Connected to agent-service" }).first().waitFor();
  await picture("started");
  await wb.command("OpenHands: Stop Service");
  await wb.notification("The service was stopped.").waitFor();
  await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
});
