import { expect, test } from "vitest";
import { applyDiff, inverted, parseDiff } from "../../src/core/unifiedDiff";

const diff = [
  "--- a/src/a b.py\t",
  "+++ b/src/a b.py\t",
  "@@ -1,2 +1,3 @@",
  " x = 1",
  "-y = 2",
  "+y = 3",
  "+--- z",
  "@@ -9 +10 @@",
  "-end",
  "\\ No newline at end of file",
  "+the end",
  "\\ No newline at end of file",
  "--- /dev/null",
  "+++ b/new.txt",
  "@@ -0,0 +1,2 @@",
  "+one",
  "+two",
  "--- a/old.txt",
  "+++ /dev/null",
  "@@ -1 +0,0 @@",
  "-gone",
  "Binary files a/p.png and b/p.png differ",
  "",
].join("\n");
const before = "x = 1\ny = 2\n3\n4\n5\n6\n7\n8\nend";
const after = "x = 1\ny = 3\n--- z\n3\n4\n5\n6\n7\n8\nthe end";

test("each file has its two names", () => {
  expect(parseDiff(diff).map((file) => [file.oldPath, file.newPath])).toEqual([
    ["src/a b.py", "src/a b.py"],
    [null, "new.txt"],
    ["old.txt", null],
  ]);
});

test("a change is applied and taken back", () => {
  const [file, created, deleted] = parseDiff(diff);
  if (!file || !created || !deleted) throw new Error("files are missing");
  expect(applyDiff(before, file)).toBe(after);
  expect(applyDiff(after, inverted(file))).toBe(before);
  expect(applyDiff("", created)).toBe("one\ntwo\n");
  expect(applyDiff("one\ntwo\n", inverted(created))).toBe("");
  expect(applyDiff("gone\n", deleted)).toBe("");
});

test("a change that does not fit is not forced", () => {
  const [file] = parseDiff(diff);
  if (!file) throw new Error("no file");
  expect(applyDiff(before.replace("x = 1", "x = 0"), file)).toBeUndefined();
  expect(applyDiff("", file)).toBeUndefined();
});

test("what is no diff has no files", () => {
  expect(parseDiff("rm -rf build\n@@ -1 +1 @@\n-a\n")).toEqual([]);
});
