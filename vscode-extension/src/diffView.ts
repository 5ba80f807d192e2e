import path from "node:path";
import * as vscode from "vscode";
import { applyDiff, type FileDiff, inverted, parseDiff } from "./core/unifiedDiff";
import { beside, SCHEME, type VirtualDocuments, WANTED_SCHEME } from "./virtualDocuments";

/** More files than this are shown as one unified diff. */
const MOST_TABS = 8;

/** A file of a diff: what stands on which side, and what is known of it only from the diff. */
interface Side {
  readonly name: string;
  /** Null where there is no such file now. */
  readonly file: vscode.Uri | null;
  readonly other: string;
}

/** Shows unified diffs of the service as the editor's own, beside and without taking the focus. */
export class DiffView {
  constructor(private readonly documents: VirtualDocuments) {}

  /** What an agent did: the right side of each diff is the file itself. */
  async showChanges(diff: string, project: string | null): Promise<void> {
    await this.#show(diff, project, "changes by the agent", true);
  }

  /** What an agent would do: the left side is the file itself. Returns the documents to close again. */
  showPreview(preview: string, project: string | null): Promise<vscode.Uri[]> {
    return this.#show(preview, project, "wanted by the agent", false);
  }

  /** `done`: the files are as they are after the change. */
  async #show(diff: string, project: string | null, title: string, done: boolean): Promise<vscode.Uri[]> {
    const scheme = done ? SCHEME : WANTED_SCHEME;
    const files = project === null ? [] : parseDiff(diff);
    const root = vscode.Uri.file(project ?? "/");
    const read = await Promise.all(files.map((file) => sideOf(done ? inverted(file) : file, root)));
    const sides = read.filter((side) => side !== undefined);
    if (sides.length === 0 || sides.length < files.length || sides.length > MOST_TABS) {
      const name = capitalized(`${title}.${files.length > 0 ? "diff" : "txt"}`);
      const plain = this.documents.add(name, diff, scheme);
      await vscode.window.showTextDocument(plain, beside(true));
      return [plain];
    }
    const shown: vscode.Uri[] = [];
    for (const { name, file, other } of sides) {
      const base = path.basename(name);
      const made = this.documents.add(base, other, scheme);
      const now = file ?? this.documents.add(base, "");
      const [before, after] = done ? [made, now] : [now, made];
      await vscode.commands.executeCommand("vscode.diff", before, after, `${base} (${title})`, beside());
      shown.push(made);
    }
    return shown;
  }
}

/** The file as it is and as the change makes it; undefined where the change does not fit any more. */
async function sideOf(change: FileDiff, root: vscode.Uri): Promise<Side | undefined> {
  const name = change.oldPath ?? change.newPath;
  if (name === null) return undefined;
  const file = change.oldPath === null ? null : vscode.Uri.joinPath(root, name);
  try {
    // What is on the disk: an open document may not have heard of a change yet.
    const text = file === null ? "" : new TextDecoder().decode(await vscode.workspace.fs.readFile(file));
    const other = applyDiff(text, change);
    return other === undefined ? undefined : { name, file, other };
  } catch {
    return undefined;
  }
}

const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
