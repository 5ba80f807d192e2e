/** Where generated code goes: into the selection that it was asked for, and nowhere else. */

import { createHash } from "node:crypto";

/** A place in a document as it was when the agent was asked. Offsets count UTF-16 units. */
export interface Destination {
  /** The document. */
  readonly uri: string;
  readonly start: number;
  readonly end: number;
  /** The text between the two; empty for a mere cursor. */
  readonly before: string;
  /** Of the whole document. */
  readonly fingerprint: string;
}

export interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

export type Plan =
  /** The document is as it was: the edit can be made. */
  | { readonly kind: "apply"; readonly edit: Edit }
  /** The person should see the edit first: the document changed, or they want it so. */
  | { readonly kind: "review"; readonly edit: Edit; readonly changed: boolean }
  /** The selected text is not there any more, or in several places. */
  | { readonly kind: "lost" };

export function destination(uri: string, text: string, start: number, end: number): Destination {
  return { uri, start, end, before: text.slice(start, end), fingerprint: fingerprint(text) };
}

/** What to do with the code, in view of the document's present text. */
export function planEdit(place: Destination, text: string, code: string, review: boolean): Plan {
  const changed = fingerprint(text) !== place.fingerprint;
  const start = changed ? locate(place, text) : place.start;
  if (start === undefined) return { kind: "lost" };
  const end = start + place.before.length;
  const edit = { start, end, text: fitted(code, text, start, end) };
  return changed || review ? { kind: "review", edit, changed } : { kind: "apply", edit };
}

export const applied = (text: string, edit: Edit): string =>
  text.slice(0, edit.start) + edit.text + text.slice(edit.end);

/** Where the selected text is now; undefined if that is not certain. */
function locate({ start, before }: Destination, text: string): number | undefined {
  if (before === "") return Math.min(start, text.length);
  if (text.startsWith(before, start)) return start;
  const first = text.indexOf(before);
  return first >= 0 && first === text.lastIndexOf(before) ? first : undefined;
}

/** The code with the indentation, the line ends and the last line break of what it replaces. */
function fitted(code: string, text: string, start: number, end: number): string {
  const before = text.slice(start, end);
  const lineStart = text.lastIndexOf("\n", start - 1) + 1;
  const prefix = text.slice(lineStart, start);
  let lines = code
    .replace(/\r\n?/g, "\n")
    .replace(/^\n+|\s+$/g, "")
    .split("\n");
  if (prefix.trim() === "") {
    const base = before.trim() === "" ? prefix : commonIndent((prefix + before).split("\n"));
    lines = indented(lines, base);
    if (lines[0]?.startsWith(prefix)) lines[0] = lines[0].slice(prefix.length);
  }
  const eol = text.includes("\r\n") ? "\r\n" : "\n";
  return lines.join(eol) + (needsLineEnd(before, prefix, text.slice(end)) ? eol : "");
}

function needsLineEnd(before: string, prefix: string, rest: string): boolean {
  if (before !== "") return before.endsWith("\n");
  // A cursor in front of a line of text: the code becomes lines of its own.
  return prefix.trim() === "" && /^[^\S\n]*\S/.test(rest);
}

function indented(lines: string[], base: string): string[] {
  const surplus = commonIndent(lines).length;
  return lines.map((line) => (line.trim() === "" ? "" : base + line.slice(surplus)));
}

function commonIndent(lines: string[]): string {
  const indents = lines.filter((line) => line.trim() !== "").map((line) => /^[ \t]*/.exec(line)?.[0] ?? "");
  const [first = "", ...others] = indents;
  return others.reduce((common, indent) => {
    let length = 0;
    while (length < common.length && common[length] === indent[length]) length++;
    return common.slice(0, length);
  }, first);
}

function fingerprint(text: string): string {
  return createHash("sha256").update(text).digest("base64");
}
