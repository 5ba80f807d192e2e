import { readFile, stat } from "node:fs/promises";
import { expect, test } from "vitest";
import { VSIX } from "./workbench";

const MOST_BYTES = 150_000;

/** The names in a zip archive, from its central directory (PKWARE APPNOTE, section 4.3.12). */
function namesIn(zip: Buffer): string[] {
  const end = zip.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  const names: string[] = [];
  let at = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left--) {
    const [name, extra, comment] = [28, 30, 32].map((offset) => zip.readUInt16LE(at + offset)) as [
      number,
      number,
      number,
    ];
    names.push(zip.toString("utf8", at + 46, at + 46 + name));
    at += 46 + name + extra + comment;
  }
  return names;
}

test("the package holds what is needed and nothing else", async () => {
  expect(namesIn(await readFile(VSIX)).toSorted()).toEqual([
    "[Content_Types].xml",
    "extension.vsixmanifest",
    "extension/LICENSE.txt",
    "extension/changelog.md",
    "extension/dist/extension.js",
    "extension/media/activity.svg",
    "extension/media/icon.png",
    "extension/media/readme/approval.png",
    "extension/media/readme/chat.png",
    "extension/media/readme/question.png",
    "extension/media/readme/review.png",
    "extension/media/readme/threads.png",
    "extension/media/walkthrough/agent.md",
    "extension/media/walkthrough/ask.md",
    "extension/media/walkthrough/connect.md",
    "extension/package.json",
    "extension/readme.md",
  ]);
});

test("the package stays small", async () => {
  expect((await stat(VSIX)).size).toBeLessThan(MOST_BYTES);
});
