import path from "node:path";
import { beforeAll, expect, test } from "vitest";
import { Workbench } from "../workbench/workbench";

const TESTS = path.resolve(import.meta.dirname, "../../dist/host-tests.js");
const CALC = "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n";
const MARK = "host test result ";
const MINUTE = 60_000;

interface Result {
  readonly name: string;
  readonly error?: string;
  readonly milliseconds: number;
}

let results: Result[] = [];

/** Runs all of index.ts in the extension host of a real workbench, on a workspace of two folders. */
beforeAll(async () => {
  const wb = await Workbench.start({
    files: { "alpha/calc.py": CALC, "beta/calc.py": CALC },
    folders: ["alpha", "beta"],
    hostTests: TESTS,
  });
  try {
    const late = new Promise((resolve) => setTimeout(resolve, 2 * MINUTE));
    await Promise.race([wb.hostEnd, late]);
    const marked = wb.hostOutput.filter((line) => line.startsWith(MARK));
    results = marked.map((line) => JSON.parse(line.slice(MARK.length)) as Result);
    for (const { name, milliseconds, error } of results)
      if (process.env.VERBOSE || error) console.log(`${error ? "not ok" : "ok"} ${name}, ${milliseconds} ms`);
    if (results.length === 0) throw new Error(`no test ran:\n${wb.hostOutput.join("\n")}`);
  } finally {
    await wb.stop();
  }
}, 3 * MINUTE);

test("all tests ran in the extension host, and all passed", () => {
  const failed = results.filter((each) => each.error !== undefined);
  expect(failed.map(({ name, error }) => `${name}: ${error ?? ""}`).join("\n\n")).toBe("");
  expect(results.length).toBeGreaterThan(25);
});
