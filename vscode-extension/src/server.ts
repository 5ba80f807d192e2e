import { spawn } from "node:child_process";
import { accessSync, constants, openSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import * as config from "./config";
import type { ServiceConnection } from "./connection";
import { cancelled, Fault } from "./core/faults";
import { sleep } from "./core/follow";
import { cleaned, findCommand, isLocal, type Launch, planLaunch } from "./core/launch";
import { identityOf } from "./processIdentity";

const START_MS = 30_000;
const STARTED = "serviceProcess";

interface StartedProcess {
  readonly pid: number;
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

  /** Start it and wait until it answers. Throws a Fault that says what stands in the way. */
  async start(signal?: AbortSignal): Promise<void> {
    if (await this.#answers()) return;
    const { command, cwd } = await this.#program();
    const wish = { baseUrl: config.baseUrl(), roots: roots(), cwd, env: process.env };
    await this.#run(planLaunch(command, wish), signal);
  }

  /**
   * Have the command fetch the small model that runs on this machine; `show` is told how far it is. Throws a Fault
   * that says what stands in the way.
   */
  async installModel(show: (message: string) => void, signal: AbortSignal): Promise<void> {
    const { command, cwd } = await this.#program();
    this.log.info(`running ${command} local install`);
    const child = spawn(command, ["local", "install", "--yes"], { cwd, env: cleaned(process.env), signal });
    let last = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (text: Buffer) => {
        last =
          text
            .toString()
            .split(/[\r\n]+/)
            .findLast((line) => line.trim() !== "") ?? last;
        show(last);
      });
    }
    const failure = await new Promise<string | undefined>((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("close", (code) => resolve(code === 0 ? undefined : last));
    });
    if (signal.aborted) throw cancelled();
    if (failure !== undefined) throw new Fault("program", `The model was not installed: ${failure}`);
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
      if (failure !== undefined) throw new Fault("program", `The service did not start: ${failure}`);
      if (Date.now() > giveUp)
        throw new Fault("program", `The service did not start in time; see ${logFile}`);
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

  /** The command, and a folder of its own to run it in. */
  async #program(): Promise<{ command: string; cwd: string }> {
    if (!vscode.workspace.isTrusted)
      throw new Fault("untrusted", "Programs of this machine are started in trusted workspaces only");
    const baseUrl = config.baseUrl();
    if (!isLocal(baseUrl)) throw new Fault("settings", `${baseUrl} is not an address of this machine`);
    const command = this.#command();
    if (!command)
      throw new Fault(
        "missing",
        `${config.serviceCommand()} was not found on this machine; install it, or set openhands.service.command to its path`,
      );
    const cwd = this.context.globalStorageUri.fsPath;
    await mkdir(cwd, { recursive: true });
    return { command, cwd };
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

function lastLine(file: string): string {
  return readFileSync(file, "utf8").trim().split("\n").at(-1) ?? "";
}
