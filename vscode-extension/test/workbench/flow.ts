import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll } from "vitest";
import type { Locator } from "playwright-core";
import { ServiceStack, type Step } from "../service/stack";
import { until, Workbench } from "./workbench";

export const CALC = "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n";
export const ADD = "```python\ndef add(a, b):\n    return int(a) + int(b)\n```\n";

export const asks = (question: string, options?: string[]): Step => ({
  calls: [["ask_human_for_input", { question, ...(options && { options }) }]],
});

export interface Thread {
  readonly thread_id: string;
  readonly human_input_request: { tool_call_id: string } | null;
}

/** Files of the project, one for each flow that changes it. */
const FILES = [
  "agent.py",
  "approve.py",
  "ask.py",
  "cancel.py",
  "chat.py",
  "crash.py",
  "fix.py",
  "insert.py",
  "notes.py",
  "options.py",
  "refuse.py",
  "reload.py",
  "replace.py",
  "rewind.py",
  "theirs.py",
  "tree.py",
  "typed.py",
  "typing.py",
];

interface Wishes {
  /** The service's configuration. */
  readonly agent?: object;
  readonly settings?: Record<string, unknown>;
}

/** A workbench and the service behind it, for all tests of a file. */
export class Flow {
  #wb: Workbench | undefined;
  #service: ServiceStack | undefined;
  #home = "";

  /** To be called at the top of a file: starts everything before its tests, and tidies up after each. */
  static use(wishes: Wishes): Flow {
    const flow = new Flow();
    beforeAll(() => flow.#start(wishes));
    afterAll(() => flow.#stop());
    afterEach(async ({ task }) => {
      if (task.result?.state === "fail") await flow.wb.screenshot(`fail-${task.name.replace(/\W+/g, "-")}`);
      await flow.#tidy();
    });
    return flow;
  }

  get wb(): Workbench {
    if (!this.#wb) throw new Error("the workbench is not up");
    return this.#wb;
  }

  get service(): ServiceStack {
    if (!this.#service) throw new Error("the service is not up");
    return this.#service;
  }

  onDisk(name: string): Promise<string> {
    return readFile(path.join(this.wb.folder, name), "utf8");
  }

  async api<T>(route: string, body?: object): Promise<T> {
    const headers = { "Content-Type": "application/json" };
    const init = body ? { method: "POST", headers, body: JSON.stringify(body) } : {};
    return (await (await fetch(`${this.service.url}/v1/agents/${route}`, init)).json()) as T;
  }

  statusBar(text: string): Locator {
    return this.wb.page.locator(".statusbar-item[id*='openhands']", { hasText: text });
  }

  /** A line of the tree of threads. */
  row(text: string): Locator {
    return this.wb.page.locator(".pane-body .monaco-list-row", { hasText: text });
  }

  /** Choose from the menu of a line of the tree, until what that opens is there. */
  async menu(line: string, entry: string, opened: Locator): Promise<void> {
    const { page } = this.wb;
    await until(`${entry} of ${line}`, async () => {
      await page.keyboard.press("Escape");
      await this.row(line).first().click({ button: "right", timeout: 5_000 });
      await page.locator(".context-view .action-label", { hasText: entry }).hover({ timeout: 5_000 });
      await page.keyboard.press("Enter"); // a menu that just opened takes no clicks for a moment
      await opened.waitFor({ timeout: 5_000 });
      return true;
    });
  }

  /** A button in the title bar of the active editor, or of the one beside. */
  titleButton(name: string): Locator {
    return this.wb.page.locator(".editor-group-container .editor-actions").getByRole("button", { name });
  }

  showThreads(): Promise<void> {
    return this.wb.command("Agent threads: Focus on Agent threads View");
  }

  /** Select the function in the file, and ask the agent. */
  async askAgent(file: string, instruction: string): Promise<void> {
    const { wb } = this;
    await wb.open(file);
    await wb.select(1, 2);
    await wb.command("Ask OpenHands Code Agent");
    await wb.answer("What should become of the selected code?", instruction);
  }

  async #start({ agent = {}, settings = {} }: Wishes): Promise<void> {
    this.#home = await mkdtemp(path.join(tmpdir(), "workbench-service-"));
    // The project's place is known only once the workbench is up.
    const sections = { agent: { allowed_roots: [tmpdir()], ...agent } };
    this.#service = await ServiceStack.prepare(this.#home, sections);
    const named = Object.fromEntries(FILES.map((name) => [name, CALC]));
    [this.#wb] = await Promise.all([
      Workbench.start({
        files: named,
        settings: { "openhands.api.baseUrl": this.service.url, ...settings },
      }),
      this.service.restart(),
    ]);
  }

  async #stop(): Promise<void> {
    await this.#wb?.stop();
    await this.#service?.stop();
    await rm(this.#home, { recursive: true });
  }

  async #tidy(): Promise<void> {
    await this.wb.page.keyboard.press("Escape");
    await this.wb.closeEditors();
    await this.#withdrawQuestions();
    await this.wb.clearNotifications();
  }

  /** What a test that failed left open would be in the way of the next one. */
  async #withdrawQuestions(): Promise<void> {
    const { threads } = await this.api<{ threads: Thread[] }>("threads?status=requires_human_input");
    for (const { thread_id } of threads) await this.api(`threads/${thread_id}/cancel`, {});
  }
}
