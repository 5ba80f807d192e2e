import { type ChildProcess, execFile, spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { type Browser, chromium, type Locator, type Page } from "playwright-core";

const EXTENSION = path.resolve(import.meta.dirname, "../..");
export const ARTIFACTS = path.join(EXTENSION, "test-artifacts");
export const VSIX = path.join(EXTENSION, "openhands-ai-assistant.vsix");

const SETTINGS = {
  "telemetry.telemetryLevel": "off",
  "update.mode": "none",
  "extensions.autoUpdate": false,
  "extensions.autoCheckUpdates": false,
  "extensions.ignoreRecommendations": true,
  "workbench.startupEditor": "none",
  "workbench.editor.useModal": "off",
  "workbench.tips.enabled": false,
  "workbench.quickOpen.closeOnFocusLost": false,
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.enableExperiments": false,
  "files.autoSave": "off", // the web workbench saves after a delay unless told otherwise
  "files.simpleDialog.enable": true,
  "window.dialogStyle": "custom",
  "git.enabled": false,
  "editor.minimap.enabled": false,
  "editor.autoClosingBrackets": "never",
  "editor.autoClosingQuotes": "never",
  "editor.autoSurround": "never",
  "editor.lightbulb.enabled": "off",
  "editor.scrollBeyondLastLine": false,
  "editor.cursorBlinking": "solid",
};

/** What also a fresh one has: nothing is fetched from elsewhere. */
const FRESH_SETTINGS = Object.fromEntries(Object.entries(SETTINGS).slice(0, 4));

/** Of scope machine: read from the machine's settings only. */
const MACHINE_SETTING = "openhands.service.command";

const BROWSER = [
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-default-apps",
  "--disable-domain-reliability",
  "--disable-sync",
  "--metrics-recording-only",
  "--no-first-run",
  "--no-pings",
  // Whatever wants a name outside of this machine gets none.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

export interface WorkbenchOptions {
  /** Name -> text of the files of the project. */
  files: Record<string, string>;
  settings?: Record<string, unknown>;
  trust?: boolean;
  /** As somebody finds it who just installed the editor: its own settings, not trusted, without the extension. */
  fresh?: boolean;
  /** Folders of the project, as the workspace in place of the project. */
  folders?: string[];
  /** Run this file in the extension host, with the extension from its folder and not from the package. */
  hostTests?: string;
}

/** A real VS Code workbench with the extension, driven by a real browser. */
export class Workbench {
  readonly #root: string;
  #server: ChildProcess | undefined;
  #browser: Browser | undefined;
  #page: Page | undefined;
  #origin = "";
  #log = "";
  /** What tests in the extension host print. */
  readonly hostOutput: string[] = [];
  /** Resolves when they ended. */
  hostEnd: Promise<void> = Promise.resolve();

  static async start(options: WorkbenchOptions): Promise<Workbench> {
    const workbench = new Workbench(await mkdtemp(path.join(tmpdir(), "workbench-")));
    try {
      await workbench.#prepare(options);
      await workbench.#serve(options);
      await workbench.#browse(options);
    } catch (error) {
      await workbench.stop();
      throw error;
    }
    return workbench;
  }

  private constructor(root: string) {
    this.#root = root;
  }

  get #workspaceFile(): string {
    return path.join(this.#root, "project.code-workspace");
  }

  get folder(): string {
    return path.join(this.#root, "project");
  }

  /** The home folder of the person. */
  get home(): string {
    return this.#root;
  }

  get page(): Page {
    if (!this.#page) throw new Error("the workbench is not up");
    return this.#page;
  }

  /** The visible input box or pick list. */
  get quickInput(): Locator {
    return this.page.locator(".quick-input-widget:visible");
  }

  /** Run a command by the title that a person would type. */
  async command(title: string): Promise<void> {
    await this.page.keyboard.press("F1");
    const input = this.quickInput.locator("input").first();
    await input.waitFor();
    await input.fill(`>${title}`);
    const row = this.quickInput
      .getByRole("option", { name: new RegExp(`^${escaped(title)}(,.*)?$`) })
      .first();
    await row.click();
  }

  async open(name: string): Promise<void> {
    await this.page.keyboard.press("Control+P");
    const input = this.quickInput.locator("input").first();
    await input.waitFor();
    await input.fill(name);
    await this.quickInput.locator(".monaco-list-row", { hasText: name }).first().click();
    await this.page.locator(".editor-group-container.active .tab.active", { hasText: name }).waitFor();
    await this.page.locator(".editor-group-container.active .monaco-editor .view-line").first().waitFor();
  }

  /** Wait for a box that shows the text, type the answer, press Enter. */
  async answer(text: string, value: string): Promise<void> {
    const box = this.quickInput.filter({ hasText: text });
    await box.waitFor();
    await box.locator("input").first().fill(value);
    await this.page.keyboard.press("Enter");
    await box.waitFor({ state: "hidden" });
  }

  /** Wait for a pick list that shows the text, and choose. */
  async pick(text: string, option: string): Promise<void> {
    const row = this.quickInput.filter({ hasText: text }).getByRole("option", { name: option }).first();
    await row.click();
    await row.waitFor({ state: "detached" });
  }

  /** Select whole lines, one-based, with the keyboard. */
  async select(first: number, last: number): Promise<void> {
    await this.goTo(first);
    for (let line = first; line < last; line++) await this.page.keyboard.press("Shift+ArrowDown");
    await this.page.keyboard.press("Shift+End");
  }

  /** Put the cursor at the beginning of the line. */
  async goTo(line: number): Promise<void> {
    await this.page.keyboard.press("Control+G");
    await this.quickInput.locator("input").first().fill(`:${line}`);
    await this.page.keyboard.press("Enter");
    await this.quickInput.waitFor({ state: "hidden" });
    await this.page.keyboard.press("Home");
    await this.page.keyboard.press("Home");
  }

  async focusGroup(number: number): Promise<void> {
    await this.page.keyboard.press(`Control+${number}`);
  }

  /** The visible text of every editor. */
  editors(): Promise<string[]> {
    return this.page.locator(".editor-instance .monaco-editor").evaluateAll((editors) =>
      editors.map((editor) =>
        [...editor.querySelectorAll<HTMLElement>(".view-line")]
          .map((line) => ({
            top: parseFloat(line.style.top),
            text: line.textContent.replaceAll("\u00a0", " "),
          }))
          .sort((a, b) => a.top - b.top)
          .map((line) => line.text)
          .join("\n"),
      ),
    );
  }

  /** An editor's text, once one has the part in it. */
  async editorWith(part: string): Promise<string> {
    return until(`an editor with ${JSON.stringify(part)}`, async () =>
      (await this.editors()).find((text) => text.includes(part)),
    );
  }

  async save(): Promise<void> {
    await this.page.keyboard.press("Control+S");
    await this.page
      .locator(".editor-group-container.active .tab.active.dirty")
      .waitFor({ state: "detached" });
  }

  notification(text: string): Locator {
    return this.page.locator(".notifications-toasts .notification-list-item", { hasText: text });
  }

  async press(notification: string, button: string): Promise<void> {
    await this.notification(notification).getByRole("button", { name: button, exact: true }).click();
  }

  get dialog(): Locator {
    return this.page.locator(".monaco-dialog-box");
  }

  /** Press a button of the dialog in the middle. */
  async confirm(button: string): Promise<void> {
    await this.dialog.getByRole("button", { name: button, exact: true }).click();
    await this.dialog.waitFor({ state: "detached" });
  }

  async clearNotifications(): Promise<void> {
    const toasts = this.page.locator(".notifications-toasts .notification-list-item");
    if ((await toasts.count()) === 0) return;
    await this.command("Notifications: Clear All Notifications");
    await toasts.first().waitFor({ state: "detached" });
  }

  /** Save everything and close it. */
  async closeEditors(): Promise<void> {
    const dirty = this.page.locator(".tab.dirty");
    if ((await dirty.count()) > 0) await this.command("File: Save All Files");
    await dirty.first().waitFor({ state: "detached" });
    const tabs = this.page.locator(".editor-group-container .tab");
    if ((await tabs.count()) === 0) return;
    await this.command("View: Close All Editor Groups");
    await tabs.first().waitFor({ state: "detached" });
  }

  async screenshot(name: string): Promise<void> {
    await mkdir(ARTIFACTS, { recursive: true });
    await this.page.screenshot({ path: path.join(ARTIFACTS, `${name}.png`) });
  }

  /** Say something in the editor's own chat. */
  async chat(text: string): Promise<void> {
    await this.command("Chat: Open Chat");
    const input = this.page.locator(".interactive-session .interactive-input-editor .monaco-editor");
    await input.waitFor();
    await input.click();
    await this.page.keyboard.type(text);
    await this.page.keyboard.press("Escape"); // the list of suggestions
    await this.page.keyboard.press("Enter");
  }

  chatAnswer(text: string): Locator {
    return this.page.locator(".interactive-session .interactive-response", { hasText: text });
  }

  chatButton(name: string): Locator {
    return this.page.locator(".interactive-session").getByRole("button", { name, exact: true });
  }

  /** Write the user's settings. */
  async configure(
    settings: Record<string, unknown>,
    base: Record<string, unknown> = SETTINGS,
  ): Promise<void> {
    const { [MACHINE_SETTING]: ofMachine, ...ofUser } = settings;
    const layers = { User: { ...base, ...ofUser }, Machine: { [MACHINE_SETTING]: ofMachine } };
    for (const [layer, values] of Object.entries(layers)) {
      const folder = path.join(this.#root, "user-data", layer);
      await mkdir(folder, { recursive: true });
      await writeFile(path.join(folder, "settings.json"), JSON.stringify(values, null, 2));
    }
  }

  /** Change the user's settings by hand, as a person does: the open window knows of it at once. */
  async changeSettings(settings: Record<string, unknown>): Promise<void> {
    await this.command("Preferences: Open User Settings (JSON)");
    await this.page
      .locator(".editor-group-container.active .tab.active", { hasText: "settings.json" })
      .waitFor();
    await this.page.locator(".editor-group-container.active .monaco-editor .view-line").first().click();
    await this.page.keyboard.press("Control+A");
    await this.page.keyboard.insertText(JSON.stringify({ ...SETTINGS, ...settings }));
    await this.save();
    await this.command("View: Close Editor");
  }

  /** Install the package by hand, as a person does. */
  async installByHand(): Promise<void> {
    const file = path.join(this.home, path.basename(VSIX));
    await copyFile(VSIX, file);
    await this.command("Extensions: Install from VSIX...");
    const input = this.quickInput.locator("input").first();
    await until("the dialog for a file", async () => (await input.inputValue()).startsWith("/"));
    await until("the package to be chosen", async () => {
      await input.fill(file); // a dialog that still reads its folder puts the folder back
      await this.quickInput.getByRole("button", { name: "Install" }).click();
      await this.quickInput.waitFor({ state: "hidden", timeout: 5_000 });
      return true;
    });
    await this.#ready();
  }

  /** Load the window anew, as a person who presses F5. */
  async reload(): Promise<void> {
    this.page.once("dialog", (dialog) => void dialog.accept());
    await this.page.reload();
    await this.#ready();
  }

  /** Open a folder of another file system in this window. */
  async openFolder(uri: string): Promise<void> {
    await this.page.goto(`${this.#origin}/?${new URLSearchParams({ folder: uri }).toString()}`);
    await this.#ready();
  }

  async stop(): Promise<void> {
    await this.#browser?.close();
    const server = this.#server;
    if (server?.pid !== undefined && server.exitCode === null) {
      const gone = new Promise((resolve) => server.once("exit", resolve));
      process.kill(-server.pid, "SIGTERM");
      await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, 5_000))]);
      if (server.signalCode === null) process.kill(-server.pid, "SIGKILL");
    }
    await rm(this.#root, { recursive: true, force: true, maxRetries: 5 });
  }

  async #prepare({ files, settings, folders, hostTests, fresh }: WorkbenchOptions): Promise<void> {
    for (const [name, text] of Object.entries(files)) {
      const file = path.join(this.folder, name);
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, text);
    }
    await this.configure(settings ?? {}, fresh ? FRESH_SETTINGS : SETTINGS);
    await writeFile(path.join(this.#root, "config.yaml"), "auth: none\n");
    const listed = { folders: (folders ?? []).map((name) => ({ path: path.join(this.folder, name) })) };
    await writeFile(this.#workspaceFile, JSON.stringify(listed));
    if (hostTests !== undefined || fresh) return;
    await promisify(execFile)(needed("WORKBENCH_NODE"), [...this.#args(), "--install-extension", VSIX], {
      env: this.#env(),
    });
  }

  async #serve({ fresh, trust = !fresh, hostTests }: WorkbenchOptions): Promise<void> {
    const port = await freePort();
    this.#origin = `http://127.0.0.1:${port}`;
    const flags = [
      "--bind-addr",
      `127.0.0.1:${port}`,
      "--auth",
      "none",
      "--disable-telemetry",
      "--disable-update-check",
    ];
    flags.push("--disable-proxy", "--disable-getting-started-override", "--ignore-last-opened");
    if (trust) flags.push("--disable-workspace-trust");
    // Without it a workbench that was built for people does not take tests.
    if (hostTests !== undefined) flags.push("--vscode-option", "enable-smoke-test-driver");
    const options = { env: this.#env(), detached: true };
    const server = spawn(needed("WORKBENCH_NODE"), [...this.#args(), ...flags, this.folder], options);
    this.#server = server;
    for (const stream of [server.stdout, server.stderr]) {
      stream.on("data", (text: Buffer) => (this.#log += text.toString()));
    }
    await until("code-server", async () => (await fetch(`${this.#origin}/healthz`)).ok).catch(
      (cause: unknown) => {
        throw new Error(`code-server did not start: ${this.#log}`, { cause });
      },
    );
  }

  async #browse(options: WorkbenchOptions): Promise<void> {
    this.#browser = await chromium.launch({ executablePath: needed("CHROMIUM"), args: BROWSER });
    const context = await this.#browser.newContext({
      viewport: { width: 1360, height: 850 },
      reducedMotion: "reduce",
    });
    this.#page = await context.newPage();
    this.#page.setDefaultTimeout(30_000);
    if (options.hostTests !== undefined) await this.#listenToHost(this.#page);
    await this.#page.goto(`${this.#origin}/?${this.#query(options).toString()}`);
    if (options.hostTests === undefined && !options.fresh) await this.#ready();
  }

  #query({ folders, hostTests }: WorkbenchOptions): URLSearchParams {
    const query = new URLSearchParams(folders ? { workspace: this.#workspaceFile } : { folder: this.folder });
    if (hostTests === undefined) return query;
    const remote = (file: string): string => `vscode-remote://${new URL(this.#origin).host}${file}`;
    const payload = [
      ["extensionDevelopmentPath", remote(EXTENSION)],
      ["extensionTestsPath", remote(hostTests)],
    ];
    query.set("payload", JSON.stringify(payload));
    return query;
  }

  /** The workbench hands on what the extension host prints, and tells when the tests there ended. */
  async #listenToHost(page: Page): Promise<void> {
    await page.exposeFunction("codeAutomationLog", (_: string, args: unknown) => {
      this.hostOutput.push([args].flat().map(String).join(" "));
    });
    let ended: () => void;
    this.hostEnd = new Promise((resolve) => (ended = resolve));
    await page.exposeFunction("codeAutomationExit", () => ended());
  }

  async #ready(): Promise<void> {
    await this.page.locator(".statusbar-item[id*='openhands']").waitFor({ timeout: 90_000 });
  }

  #args(): string[] {
    const folders = {
      "--user-data-dir": "user-data",
      "--extensions-dir": "extensions",
      "--config": "config.yaml",
    };
    const given = Object.entries(folders).flatMap(([flag, name]) => [flag, path.join(this.#root, name)]);
    return [needed("CODE_SERVER"), ...given];
  }

  #env(): Record<string, string> {
    // No marketplace: a closed local port instead of the default one.
    const nowhere = "http://127.0.0.1:9";
    const gallery = {
      serviceUrl: nowhere,
      itemUrl: nowhere,
      resourceUrlTemplate: `${nowhere}/{publisher}/{name}/{version}/{path}`,
    };
    return {
      PATH: process.env.PATH ?? "",
      HOME: this.#root,
      LANG: "C.UTF-8",
      EXTENSIONS_GALLERY: JSON.stringify(gallery),
    };
  }
}

/** The value as soon as there is one. */
export async function until<T>(
  what: string,
  check: () => Promise<T | false | undefined>,
  seconds = 30,
): Promise<T> {
  const end = Date.now() + seconds * 1_000;
  let last: unknown;
  while (Date.now() < end) {
    try {
      const value = await check();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`timed out waiting for ${what}`, { cause: last });
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

function needed(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run npm run test:workbench`);
  return value;
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
