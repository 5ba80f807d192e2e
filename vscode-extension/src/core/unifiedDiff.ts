/** Unified diffs, read and applied in both directions, so that the editor can show both sides of a change. */

interface Hunk {
  /** Zero-based line of the first context line. */
  readonly oldStart: number;
  readonly newStart: number;
  /** Lines with their ends. */
  readonly oldLines: readonly string[];
  readonly newLines: readonly string[];
}

export interface FileDiff {
  /** Relative to the project; null where there is no file. */
  readonly oldPath: string | null;
  readonly newPath: string | null;
  readonly hunks: readonly Hunk[];
}

/** The files of a unified diff. Lines that belong to none are skipped. */
export function parseDiff(diff: string): FileDiff[] {
  const files: (FileDiff & { hunks: Hunk[] })[] = [];
  const lines = diff.split(/(?<=\n)/);
  for (let at = 0; at < lines.length;) {
    const [line = "", next = ""] = [lines[at], lines[at + 1]];
    if (line.startsWith("--- ") && next.startsWith("+++ ")) {
      files.push({ oldPath: pathOf(line, "a/"), newPath: pathOf(next, "b/"), hunks: [] });
      at += 2;
      continue;
    }
    const header = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(line);
    at++;
    if (!header) continue;
    const [hunk, used] = readHunk(header, lines, at);
    files.at(-1)?.hunks.push(hunk);
    at += used;
  }
  return files;
}

/** The text after the change; undefined where it does not fit. */
export function applyDiff(before: string, file: FileDiff): string | undefined {
  const lines = before.split(/(?<=\n)/);
  const result: string[] = [];
  let at = 0;
  for (const hunk of file.hunks) {
    if (hunk.oldStart < at) return undefined;
    const found = lines.slice(hunk.oldStart, hunk.oldStart + hunk.oldLines.length);
    if (found.length !== hunk.oldLines.length) return undefined;
    if (found.some((line, index) => line !== hunk.oldLines[index])) return undefined;
    result.push(...lines.slice(at, hunk.oldStart), ...hunk.newLines);
    at = hunk.oldStart + hunk.oldLines.length;
  }
  return [...result, ...lines.slice(at)].join("");
}

/** The change that takes this one back. */
export const inverted = (file: FileDiff): FileDiff => ({
  oldPath: file.newPath,
  newPath: file.oldPath,
  hunks: file.hunks.map((hunk) => ({
    oldStart: hunk.newStart,
    newStart: hunk.oldStart,
    oldLines: hunk.newLines,
    newLines: hunk.oldLines,
  })),
});

function pathOf(line: string, side: string): string | null {
  const name = line.slice(4).replace(/\t?\r?\n$/, "");
  return name === "/dev/null" ? null : name.startsWith(side) ? name.slice(side.length) : name;
}

function readHunk(header: RegExpExecArray, lines: readonly string[], from: number): [Hunk, number] {
  const [oldCount, newCount] = [Number(header[2] ?? 1), Number(header[4] ?? 1)];
  const [oldLines, newLines]: [string[], string[]] = [[], []];
  let at = from;
  for (let last: string[][] = []; at < lines.length; at++) {
    const line = lines[at] ?? "";
    if (line.startsWith("\\")) {
      for (const side of last) side.push((side.pop() ?? "").replace(/\n$/, ""));
      continue;
    }
    if (oldLines.length >= oldCount && newLines.length >= newCount) break;
    last = line.startsWith("-") ? [oldLines] : line.startsWith("+") ? [newLines] : [oldLines, newLines];
    for (const side of last) side.push(line.slice(1));
  }
  const hunk = {
    oldStart: start(Number(header[1]), oldCount),
    newStart: start(Number(header[3]), newCount),
    oldLines,
    newLines,
  };
  return [hunk, at - from];
}

/** An empty side is named by the line in front of it. */
const start = (line: number, count: number): number => (count === 0 ? line : line - 1);
