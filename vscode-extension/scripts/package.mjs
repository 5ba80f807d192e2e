// Bundles and packs the extension, without asking anything of the network: openhands-ai-assistant.vsix
import { execFileSync } from "node:child_process";

const run = (file, ...args) =>
  execFileSync(process.execPath, [file, ...args], { stdio: ["ignore", "pipe", "inherit"] });

run("scripts/bundle.mjs");
run(
  "node_modules/@vscode/vsce/vsce",
  "package",
  "--no-dependencies",
  "--allow-missing-repository",
  "--skip-license",
  // The pictures of the README are in the package.
  "--no-rewrite-relative-links",
  "--out",
  "openhands-ai-assistant.vsix",
);
console.log("openhands-ai-assistant.vsix");
