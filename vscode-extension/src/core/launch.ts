/** How to start the service: decided here as plain data, done elsewhere. */

import path from "node:path";

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface LaunchWish {
  readonly baseUrl: string;
  /** Folders that projects may be in. */
  readonly roots: readonly string[];
  /** A folder of our own: in a project's folder Python would import, and run, what lies there. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Where commands are that a desktop's short PATH leaves out. */
const FURTHER_FOLDERS = [".local/bin", "/usr/local/bin", "/opt/homebrew/bin"];

/** Variables that would make another program of it: Python's own, and those of the editor's runtime. */
const NOT_INHERITED = /^(PYTHON.*|VIRTUAL_ENV|__PYVENV_LAUNCHER__|ELECTRON_.*|VSCODE_.*|NODE_OPTIONS)$/;

/** The command's absolute path; undefined when it is not on this machine. */
export function findCommand(
  name: string,
  env: Readonly<Record<string, string | undefined>>,
  isExecutable: (file: string) => boolean,
): string | undefined {
  if (path.isAbsolute(name)) return isExecutable(name) ? name : undefined;
  if (name === "" || name.includes("/")) return undefined;
  const home = env.HOME ?? "/";
  const folders = [
    ...(env.PATH ?? "").split(path.delimiter),
    ...FURTHER_FOLDERS.map((each) => path.resolve(home, each)),
  ];
  // A relative entry of PATH would look in whatever folder is open.
  return folders
    .filter((folder) => path.isAbsolute(folder))
    .map((folder) => path.join(folder, name))
    .find(isExecutable);
}

/** Whether a service at this address would be one of this machine. */
export function isLocal(baseUrl: string): boolean {
  const { hostname, protocol } = new URL(baseUrl);
  return protocol === "http:" && ["localhost", "127.0.0.1", "[::1]"].includes(hostname);
}

/** How to start the service so that it answers at the address, which must be local. */
export function planLaunch(command: string, wish: LaunchWish): Launch {
  const { hostname, port } = new URL(wish.baseUrl);
  const host = hostname === "[::1]" ? "::1" : "127.0.0.1";
  const roots = wish.roots.flatMap((root) => ["--allow-root", root]);
  return {
    command,
    args: ["serve", "--host", host, "--port", port || "80", ...roots],
    cwd: wish.cwd,
    env: cleaned(wish.env),
  };
}

/** The environment without what would make another program of the service. */
export function cleaned(env: LaunchWish["env"]): Record<string, string> {
  const kept = Object.entries(env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && !NOT_INHERITED.test(entry[0]),
  );
  return Object.fromEntries(kept);
}
