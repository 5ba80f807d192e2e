// A real workbench to test in: code-server and the node it wants from npm, and a browser. What is there already
// is not installed again; native modules are not built, since nothing here needs them.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import { installChromium } from "./install-chromium.mjs";

const CODE_SERVER = "4.139.1";
/** code-server takes exactly this major version; the platform's package carries the binary. */
const NODE = "24.21.0";

const caches = process.env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache");
const root = path.join(caches, "agent-service-tests", "vscode");
const stamp = path.join(root, `.code-server-${CODE_SERVER}-node-${NODE}`);
const node = path.join(root, "node/node_modules", `node-${process.platform}-${process.arch}`, "bin");
const home = path.join(root, "home");
const codeServer = path.join(home, "node_modules/code-server");

/** Installs what is missing. @returns where everything is. */
export function installWorkbench() {
  const chromium = installChromium(root);
  if (!existsSync(stamp)) installCodeServer();
  return { node: path.join(node, "node"), codeServer: path.join(codeServer, "out/node/entry.js"), chromium };
}

function installCodeServer() {
  console.log(`Installing code-server ${CODE_SERVER} into ${root} (once)`);
  rmSync(path.join(root, "node"), { recursive: true, force: true });
  rmSync(home, { recursive: true, force: true });
  for (const folder of [path.join(root, "node"), home]) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path.join(folder, "package.json"), '{ "private": true }\n');
  }
  npm(path.join(root, "node"), `node-${process.platform}-${process.arch}@${NODE}`);
  npm(home, `code-server@${CODE_SERVER}`);
  npm(path.join(codeServer, "lib/vscode"), "--omit=dev");
  npm(path.join(codeServer, "lib/vscode/extensions"), "--omit=dev");
  writeFileSync(stamp, "");
}

function npm(cwd, ...args) {
  const quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"];
  const env = { ...process.env, PATH: `${node}:${process.env.PATH}` };
  execFileSync("npm", ["install", ...quiet, ...args], { cwd, env, stdio: "inherit" });
}
