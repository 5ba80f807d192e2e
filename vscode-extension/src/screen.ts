import * as vscode from "vscode";
import { type Destination, destination } from "./core/edits";
import type { Screen } from "./core/requests";

/** What the person looks at when they give a command; taken before anything is waited for. */
export interface Captured {
  readonly document: vscode.TextDocument;
  readonly screen: Screen;
  readonly place: Destination;
}

/** Undefined without an active editor. */
export function capture(editor = vscode.window.activeTextEditor): Captured | undefined {
  if (!editor) return undefined;
  const { document, selection } = editor;
  const text = document.getText();
  const place = destination(
    document.uri.toString(),
    text,
    document.offsetAt(selection.start),
    document.offsetAt(selection.end),
  );
  const fileName = vscode.workspace.asRelativePath(document.uri, false);
  // The end of a selection of whole lines is in front of the next one.
  const last =
    selection.end.character === 0 && !selection.isSingleLine ? selection.end.line : selection.end.line + 1;
  const lines = [selection.start.line + 1, last] as const;
  const screen = { fileName, languageId: document.languageId, text, selected: place.before, lines };
  return { document, screen, place };
}

/** Whether there are folders, and none of them is on a disk that the service could reach. */
export function isVirtualWorkspace(): boolean {
  const folders = vscode.workspace.workspaceFolders ?? [];
  return folders.length > 0 && folders.every(({ uri }) => uri.scheme !== "file");
}

/** The folder of the document, else the only one, else the one that the person picks. */
export async function projectFolder(document: vscode.TextDocument | undefined): Promise<string | undefined> {
  const own = document && vscode.workspace.getWorkspaceFolder(document.uri);
  const onDisk = (vscode.workspace.workspaceFolders ?? []).filter(({ uri }) => uri.scheme === "file");
  const folder = own ?? (onDisk.length > 1 ? await pick(onDisk) : onDisk[0]);
  return folder?.uri.scheme === "file" ? folder.uri.fsPath : undefined;
}

async function pick(folders: readonly vscode.WorkspaceFolder[]): Promise<vscode.WorkspaceFolder> {
  const items = folders.map((folder) => ({ label: folder.name, description: folder.uri.fsPath, folder }));
  const picked = await vscode.window.showQuickPick(items, {
    title: "Ask OpenHands Code Agent",
    placeHolder: "The folder that the agent works in",
    ignoreFocusOut: true,
  });
  if (!picked) throw new vscode.CancellationError();
  return picked.folder;
}
