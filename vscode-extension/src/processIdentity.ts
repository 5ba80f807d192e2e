import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

/**
 * When a process began and what it is, as the system tells it: a process id alone may be another's by now.
 * Undefined when there is no such process.
 */
export async function identityOf(pid: number): Promise<string | undefined> {
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
