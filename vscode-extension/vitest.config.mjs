import { defineConfig } from "vitest/config";

/** Each ring is a project: `vitest run --project core`. */
export default defineConfig({
  test: {
    projects: [
      { test: { name: "core", include: ["test/core/**/*.test.ts"] } },
      {
        test: {
          name: "contract",
          include: ["test/contract/**/*.test.ts"],
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "workbench",
          include: ["test/workbench/**/*.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          bail: 0,
          fileParallelism: false,
        },
      },
    ],
  },
});
