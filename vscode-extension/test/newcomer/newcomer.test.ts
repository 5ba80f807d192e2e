import { existsSync } from "node:fs";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { PYTHON, ROOT } from "../service/stack";
import { freePort, until, Workbench } from "../workbench/workbench";

// Somebody who has just installed the editor gets from the package to code that an agent changed after asking, with the
// embedded model and without any configuration. `npm run test:newcomer`; several minutes, since the model is real.

const MODEL = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf";
const CACHE = process.env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache");
const WEIGHTS = process.env.LOCAL_MODEL_PATH ?? path.join(CACHE, "agent-service-tests", MODEL);
/** A model's turn on a busy machine with two cores. */
const PATIENCE_SECONDS = 300;
/** A small model may want to write a file again and again. */
const MOST_QUESTIONS = 6;

const FILE = "average.py";
const CODE = "def average(prices):\n    return sum(prices) / len(prices)\n";

let wb: Workbench;
let pictures = 0;
let connected = false;

beforeAll(async () => {
  if (!existsSync(WEIGHTS)) return;
  const address = `http://127.0.0.1:${await freePort()}`;
  wb = await Workbench.start({
    fresh: true,
    files: { [FILE]: CODE },
    settings: { "openhands.api.baseUrl": address },
  });
  // Where "pip install --user" puts it, and the weights as if they had been downloaded, but not verified yet.
  const command = path.join(wb.home, ".local/bin/agent-service");
  const models = path.join(wb.home, ".local/share/agent-service/models");
  for (const folder of [path.dirname(command), models]) await mkdir(folder, { recursive: true, mode: 0o700 });
  const script = `#!/bin/sh\nPYTHONPATH='${ROOT}' exec '${PYTHON}' -m agent_service "$@"\n`;
  await writeFile(command, script, { mode: 0o755 });
  await symlink(WEIGHTS, path.join(models, MODEL));
});

afterAll(async () => {
  if (!existsSync(WEIGHTS)) return;
  try {
    await wb.page.keyboard.press("Escape");
    await wb.command("OpenHands: Stop Service");
    await wb.notification("to").waitFor(); // "was stopped", or that there was nothing to stop
  } finally {
    await wb.stop();
  }
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") await picture("fail");
});

const picture = (name: string): Promise<void> =>
  wb.screenshot(`newcomer-${String(++pictures).padStart(2, "0")}-${name}`);
const step = (title: string) => wb.page.locator(".getting-started-step", { hasText: title });
const onDisk = (): Promise<string> => readFile(path.join(wb.folder, FILE), "utf8");
const approval = () => wb.notification("May the agent ");
/** What the status bar says: that agents work, that questions wait, or nothing but the name. */
const status = async (): Promise<string> =>
  (await wb.page.locator(".statusbar-item[id*='openhands']").innerText()).trim();

/** Press a button of a step of the walkthrough. */
async function press(title: string, button: string): Promise<void> {
  const welcome = wb.page.locator(".tab", { hasText: "Welcome" });
  if (!(await welcome.getAttribute("class"))?.includes("active")) await welcome.click();
  if (!(await wb.page.locator(".gettingStarted.showDetails").count())) {
    await wb.command("Welcome: Open Walkthrough...");
    await wb.pick("", "OpenHands AI Assistant");
    await wb.page.locator(".gettingStarted.showDetails").waitFor();
  }
  const choice = step(title).getByText(button, { exact: true });
  if (!(await choice.isVisible())) await step(title).click();
  await choice.click();
}

/**
 * Answer as a person does. Of its changes the first is wanted, and none of those that come later: a small model goes on
 * and on. `shown` takes a picture of the first question of each kind.
 */
function person(words: string, shown: (kind: "approval" | "question") => Promise<void>): () => Promise<void> {
  const seen = new Set<string>();
  return async () => {
    const kind = (await approval().count()) > 0 ? "approval" : "question";
    if (!seen.has(kind)) await shown(kind);
    seen.add(kind);
    if (kind === "approval")
      return wb.press("May the agent ", (await onDisk()) === CODE ? "Allow" : "Refuse");
    await wb.answer("The agent asks", words);
  };
}

/** Answer what the agent asks up to the end of its run; returns how many questions there were. */
async function answerAll(answer: () => Promise<void>): Promise<number> {
  await until("the agent to begin", async () => (await status()) !== "OpenHands");
  for (let number = 0; number <= MOST_QUESTIONS; number++) {
    const asks = async (): Promise<boolean> =>
      (await approval().count()) + (await wb.quickInput.filter({ hasText: "The agent asks" }).count()) > 0;
    await until(
      "a question, or the end",
      async () => (await asks()) || (await status()) === "OpenHands",
      PATIENCE_SECONDS,
    );
    if (!(await asks())) return number;
    await answer();
    await until("the agent to go on", async () => !(await status()).includes("question"));
  }
  throw new Error("the agent asks on and on");
}

test.skipIf(!existsSync(WEIGHTS))(
  `a newcomer follows the walkthrough and has code changed by an agent that asked first`,
  async () => {
    await wb.page.getByText("Show welcome page on startup").waitFor();
    await picture("editor");
    await wb.installByHand();
    await step("Connect to the service").waitFor(); // the walkthrough opens by itself
    await picture("walkthrough");

    await press("Connect to the service", "Start Service");
    await wb.notification("trusted workspaces only").waitFor();
    await picture("untrusted");
    await wb.press("trusted workspaces only", "Manage Trust");
    await wb.page.getByRole("button", { name: "Trust", exact: true }).first().click();
    await wb.page.locator(".statusbar-item", { hasText: "Restricted Mode" }).waitFor({ state: "detached" });
    await wb.command("View: Close Modal Editor");
    await wb.clearNotifications();

    await press("Connect to the service", "Start Service");
    await wb.notification("no model yet").waitFor();
    await picture("no-model");
    await wb.press("no model yet", "Install Embedded Model");
    await wb.dialog.waitFor();
    await picture("download");
    await wb.confirm("Download");
    await wb.notification("1 model").waitFor({ timeout: PATIENCE_SECONDS * 1_000 });
    await step("Connect to the service").locator(".codicon-getting-started-step-checked").waitFor();
    await picture("connected");
    connected = true;
    await wb.clearNotifications();

    await wb.open(FILE);
    await wb.select(1, 2);
    await press("Ask about your code", "Ask OpenHands");
    await wb.answer("Your question about the selection", "What does this do?");
    await until(
      "the answer",
      async () => (await wb.editors()).some((text) => /average/i.test(text) && text.includes("> What")),
      PATIENCE_SECONDS,
    );
    await wb
      .notification("OpenHands is answering")
      .waitFor({ state: "detached", timeout: PATIENCE_SECONDS * 1_000 });
    await picture("answer");

    await wb.focusGroup(1);
    await press("Have it changed", "Ask OpenHands Code Agent");
    const box = wb.quickInput.filter({ hasText: "What should become of the selected code?" });
    await box.waitFor();
    await picture("instruction");
    await wb.answer("What should become of the selected code?", "Make it return 0 when prices is empty.");
    await wb.notification("OpenHands agent").waitFor();
    await wb.notification("Thinking (1").waitFor(); // it says how long that takes
    await picture("working");
    const kinds: string[] = [];
    await answerAll(
      person("Yes", async (kind) => {
        kinds.push(kind);
        if (kind === "approval") await wb.page.locator(".monaco-diff-editor .line-insert").first().waitFor();
        await picture(`asks-first-${kind}`);
        expect(await onDisk()).toBe(CODE);
      }),
    );
    expect(kinds).toContain("approval");
    await picture("changed");
    expect(await onDisk()).not.toBe(CODE);
  },
);

test.skipIf(!existsSync(WEIGHTS))("told to ask, the agent asks, and uses the answer", async ({ skip }) => {
  skip(!connected, "there is no service");
  await wb.page.keyboard.press("Escape");
  await writeFile(path.join(wb.folder, FILE), CODE);
  await wb.command("View: Close All Editor Groups");
  await wb.open(FILE);
  await wb.select(1, 2);
  await wb.command("Ask OpenHands Code Agent");
  await wb.answer(
    "What should become of the selected code?",
    "Return a default when there are no prices. Ask me first what the default should be.",
  );
  const kinds: string[] = [];
  await answerAll(
    person("4711", async (kind) => {
      kinds.push(kind);
      await picture(`asked-${kind}`);
    }),
  );
  await picture("answered");
  expect(kinds).toEqual(["question", "approval"]);
  expect(await onDisk()).toContain("4711");
});
