// Bundles the extension into dist/extension.js, and the tests that run in an editor into dist/host-tests.js.
// With --watch it stays and bundles again.
import { context } from "esbuild";

const bundle = await context({
  entryPoints: { extension: "src/extension.ts", "host-tests": "test/host/index.ts" },
  outdir: "dist",
  bundle: true,
  external: ["vscode"],
  format: "cjs",
  platform: "node",
  target: "node20",
  minify: true,
  keepNames: true,
  logLevel: "warning",
});
if (process.argv.includes("--watch")) {
  await bundle.watch();
} else {
  await bundle.rebuild();
  await bundle.dispose();
}
