import { execFile, spawn } from "node:child_process";
import { accessSync, constants, openSync, readFileSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import * as vscode from "vscode";
import * as config from "./config";
import type { ServiceConnection } from "./connection";
import { Fault } from "./core/faults";
import { sleep } from "./core/follow";
import { findCommand, isLocal, type Launch, planLaunch } from "./core/launch";

const START_MS = 30_000;
const STARTED = "serviceProcess";

interface StartedProcess {
  readonly pid: number;
  /** When it began and what it is, as the system tells it: a process id alone may be another's by now. */
  readonly identity: string;
}

/** The service as a process of this machine. It outlives the window, as its threads do. */
export class Server {
  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly connection: ServiceConnection,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  /** Whether the command is there, and the address is one of this machine. */
  canStart(): boolean {
    try {
      return vscode.workspace.isTrusted && isLocal(config.baseUrl()) && this.#command() !== undefined;
    } catch {
      return false;
    }
  }

  /** Start it and wait until it answers. Throws an Error that says what stands in the way. */
  async start(signal?: AbortSignal): Promise<void> {
    if (await this.#answers()) return;
    if (!vscode.workspace.isTrusted)
      throw new Fault("settings", "The service is not started in an untrusted workspace.");
    const baseUrl = config.baseUrl();
    if (!isLocal(baseUrl)) throw new Fault("settings", `${baseUrl} is not an address of this machine`);
    const command = this.#command();
    if (!command) {
      const name = config.serviceCommand();
      throw new Fault(
        "settings",
        `${name} was not found on this machine; install it, or set openhands.service.command to its path`,
      );
    }
    const cwd = this.context.globalStorageUri.fsPath;
    await mkdir(cwd, { recursive: true });
    await this.#run(planLaunch(command, { baseUrl, roots: roots(), cwd, env: process.env }), signal);
  }

  /** Stop what was started here. Returns whether there was anything to stop. */
  async stop(): Promise<boolean> {
    const started = this.context.globalState.get<StartedProcess>(STARTED);
    await this.#remember(undefined);
    if (!started || (await identityOf(started.pid)) !== started.identity) return false;
    process.kill(started.pid, "SIGTERM");
    return true;
  }

  /** Whether *Stop Service* is offered. */
  async refresh(): Promise<void> {
    const started = this.context.globalState.get<StartedProcess>(STARTED);
    const alive = started !== undefined && (await identityOf(started.pid)) === started.identity;
    await this.#remember(alive ? started : undefined);
  }

  async #run(launch: Launch, signal?: AbortSignal): Promise<void> {
    const logFile = path.join(launch.cwd, "service.log");
    const output = openSync(logFile, "w", 0o600);
    this.log.info(`starting ${launch.command} ${launch.args.join(" ")}, its log is ${logFile}`);
    const child = spawn(launch.command, [...launch.args], {
      cwd: launch.cwd,
      env: { ...launch.env },
      detached: true,
      stdio: ["ignore", output, output],
    });
    let failure: string | undefined;
    child.once("error", (error) => (failure = error.message));
    child.once("exit", (code) => (failure ??= `it ended with code ${String(code)}. ${lastLine(logFile)}`));
    child.unref();
    const giveUp = Date.now() + START_MS;
    while (!(await this.#answers())) {
      if (failure !== undefined) throw new Error(`the service did not start: ${failure}`);
      if (Date.now() > giveUp) throw new Error(`the service did not answer in time; see ${logFile}`);
      await sleep(250, signal);
    }
    const { pid } = child;
    const identity = pid === undefined ? undefined : await identityOf(pid);
    if (pid !== undefined && identity !== undefined) await this.#remember({ pid, identity });
  }

  async #answers(): Promise<boolean> {
    try {
      const client = await this.connection.client();
      return (await client.about()).name === "agent-service";
    } catch {
      return false;
    }
  }

  #command(): string | undefined {
    return findCommand(config.serviceCommand(), process.env, isExecutable);
  }

  async #remember(started: StartedProcess | undefined): Promise<void> {
    await this.context.globalState.update(STARTED, started);
    await vscode.commands.executeCommand("setContext", "openhands.serviceStarted", started !== undefined);
  }
}

function roots(): string[] {
  const folders = vscode.workspace.workspaceFolders ?? [];
  return folders.filter(({ uri }) => uri.scheme === "file").map(({ uri }) => uri.fsPath);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function identityOf(pid: number): Promise<string | undefined> {
  try {
    if (process.platform === "linux") return await identityFromProc(pid);
    const { stdout } = await promisify(execFile)("ps", ["-o", "lstart=,command=", "-p", String(pid)]);
    return stdout.trim() || undefined;
  } catch {
    return undefined;
  }
}

/** Containers often have no `ps`. */
async function identityFromProc(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  // Field 22 of proc(5), counted from behind the name: that stands in parentheses and may hold anything.
  const begun = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  return `${begun} ${await readFile(`/proc/${pid}/cmdline`, "utf8")}`;
}

function lastLine(file: string): string {
  return readFileSync(file, "utf8").trim().split("\n").at(-1) ?? "";
}
