import { defineConfig } from "vitest/config";

/** A ring of tests; what needs an editor has more time, since a busy machine is slow to start one. */
const ring = (name, testTimeout, hookTimeout) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], testTimeout, hookTimeout },
});

/** Each ring is a project: `vitest run --project core`. */
export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      ring("core", 5_000, 10_000),
      ring("contract", 30_000, 60_000),
      ring("host", 60_000, 180_000),
      ring("workbench", 60_000, 180_000),
      ring("newcomer", 1_200_000, 180_000),
    ],
  },
});
