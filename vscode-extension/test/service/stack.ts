import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

export const ROOT = path.resolve(import.meta.dirname, "../../..");
export const PYTHON = process.env.PYTHON ?? path.join(ROOT, ".venv/bin/python");

/** What the model does with one request; with `hold` only after `release`. */
export type Step =
  | string
  | { text: string; hold?: string }
  | { calls: [name: string, args: Record<string, unknown>][]; text?: string; hold?: string }
  | { status: number; message?: string };

/** As much of JSON Schema as the service's description uses. */
export interface Schema {
  readonly type?: string;
  readonly $ref?: string;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly string[];
  readonly const?: string;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}

/** The real service with a scripted model; see stack.py. */
export class ServiceStack {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  #stderr = "";
  url = "";

  /** `sections` go into the service's configuration. */
  static async start(home: string, sections: object = {}): Promise<ServiceStack> {
    const stack = await ServiceStack.prepare(home, sections);
    await stack.restart();
    return stack;
  }

  /** The same, but the service does not run yet; its configuration is `config.yaml` in `home`. */
  static async prepare(home: string, sections: object = {}): Promise<ServiceStack> {
    const stack = new ServiceStack(home, sections);
    stack.url = (await stack.#order("address")) as string;
    return stack;
  }

  private constructor(home: string, sections: object) {
    if (!existsSync(PYTHON))
      throw new Error(`${PYTHON} is not there; set PYTHON to one that has the service's packages`);
    const args = [path.join(import.meta.dirname, "stack.py"), home, JSON.stringify(sections)];
    this.#child = spawn(PYTHON, args, { cwd: ROOT, env: { ...process.env, PYTHONPATH: ROOT } });
    this.#child.stderr.on("data", (text: Buffer) => (this.#stderr += text.toString()));
    createInterface(this.#child.stdout).on("line", (line) => {
      const { ok, error } = JSON.parse(line) as { ok?: unknown; error?: string };
      const waiting = this.#waiting.shift();
      if (error === undefined) waiting?.resolve(ok);
      else waiting?.reject(new Error(error));
    });
    this.#child.once("exit", () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error(`the stack ended: ${this.#stderr}`));
    });
  }

  async script(...steps: Step[]): Promise<void> {
    await this.#order("script", { steps });
  }

  async release(name: string): Promise<void> {
    await this.#order("release", { name });
  }

  async requests(): Promise<{ messages: { role: string; content: string }[]; tools?: unknown[] }[]> {
    return (await this.#order("requests")) as never;
  }

  /** The events of a run, as JSON Schema. */
  async eventSchema(): Promise<{ $defs: Record<string, Schema> }> {
    return (await this.#order("event_schema")) as never;
  }

  async kill(): Promise<void> {
    await this.#order("kill");
  }

  async restart(): Promise<void> {
    await this.#order("start");
  }

  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.stdin.end();
    await gone;
  }

  #order(name: string, fields: object = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin.write(`${JSON.stringify({ do: name, ...fields })}\n`);
    });
  }
}
