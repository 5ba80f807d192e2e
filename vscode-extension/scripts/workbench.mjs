// Packs the extension and tests it in a real workbench, which is installed if need be. Names of rings and options of
// vitest may follow; without a name it is the rings `host` and `workbench`. `newcomer` takes minutes and a real model.
import { spawnSync } from "node:child_process";
import { installWorkbench } from "./install-workbench.mjs";

const { node, codeServer, chromium } = installWorkbench();
const env = { ...process.env, WORKBENCH_NODE: node, CODE_SERVER: codeServer, CHROMIUM: chromium };
const run = (...args) => {
  const { status } = spawnSync(process.execPath, args, { env, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
};

const rest = process.argv.slice(2);
const rings = ["host", "workbench", "newcomer"].filter((ring) => rest.includes(ring));
const options = rest.filter((each) => !rings.includes(each));
run("scripts/package.mjs");
run(
  "node_modules/vitest/vitest.mjs",
  "run",
  ...(rings.length > 0 ? rings : ["host", "workbench"]).flatMap((ring) => ["--project", ring]),
  ...options,
);
