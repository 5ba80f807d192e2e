// Packs the extension and tests it in a real workbench, which is installed if need be.
import { spawnSync } from "node:child_process";
import { installWorkbench } from "./install-workbench.mjs";

const { node, codeServer, chromium } = installWorkbench();
const env = { ...process.env, WORKBENCH_NODE: node, CODE_SERVER: codeServer, CHROMIUM: chromium };
for (const args of [
  ["scripts/package.mjs"],
  ["node_modules/vitest/vitest.mjs", "run", "--project", "workbench"],
]) {
  const rest = args[0].endsWith("vitest.mjs") ? process.argv.slice(2) : [];
  const { status } = spawnSync(process.execPath, [...args, ...rest], { env, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
