import * as vscode from "vscode";

/** Answers, and the sides of a diff that are in no file. */
export const SCHEME = "openhands";
/** The new side of a change that waits for Apply or Discard. */
export const PROPOSAL_SCHEME = "openhands-proposal";

/** What the agent wants to do, and waits for an answer about. */
export const WANTED_SCHEME = "openhands-wanted";

const SCHEMES: readonly string[] = [SCHEME, PROPOSAL_SCHEME, WANTED_SCHEME];

/** Read-only documents that are never unsaved work. Each is forgotten when its tab is closed. */
export class VirtualDocuments implements vscode.TextDocumentContentProvider, vscode.Disposable {
  readonly #texts = new Map<string, string>();
  readonly #changed = new vscode.EventEmitter<vscode.Uri>();
  readonly #subscriptions: { dispose(): unknown }[];
  readonly onDidChange = this.#changed.event;
  #number = 0;

  constructor() {
    this.#subscriptions = [
      ...SCHEMES.map((scheme) => vscode.workspace.registerTextDocumentContentProvider(scheme, this)),
      vscode.window.tabGroups.onDidChangeTabs(({ closed }) => {
        for (const uri of closed.flatMap(sides)) this.#texts.delete(uri.toString());
      }),
      this.#changed,
    ];
  }

  /** A new document with that file name; `set` changes its text later. */
  add(name: string, text: string, scheme = SCHEME): vscode.Uri {
    const path = `/${++this.#number}/${name.replaceAll("/", "-")}`;
    const uri = vscode.Uri.from({ scheme, path });
    this.#texts.set(uri.toString(), text);
    return uri;
  }

  set(uri: vscode.Uri, text: string): void {
    this.#texts.set(uri.toString(), text);
    this.#changed.fire(uri);
  }

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.#texts.get(uri.toString()) ?? "";
  }

  dispose(): void {
    for (const each of this.#subscriptions) each.dispose();
  }
}

/** Options that show a document beside what the person works on, and leave the focus where it is. */
export function beside(preview = false): vscode.TextDocumentShowOptions {
  const { all, activeTabGroup: active } = vscode.window.tabGroups;
  const isReading = active.tabs.length > 0 && active.tabs.every(isOurs);
  if (isReading) return { viewColumn: vscode.ViewColumn.Active, preserveFocus: true, preview };
  const ours = all.find((group) => group !== active && group.tabs.some(isOurs));
  // A group that `vscode.diff` is given by its number becomes the active one, focus or not; one beside does not.
  const isBeside = ours === undefined || ours.viewColumn - active.viewColumn === 1;
  return { viewColumn: isBeside ? vscode.ViewColumn.Beside : ours.viewColumn, preserveFocus: true, preview };
}

/** Close the tabs that show any of these documents, and leave the focus where it is. */
export async function closeTabs(uris: readonly vscode.Uri[]): Promise<void> {
  const wanted = new Set(uris.map(String));
  const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs);
  await vscode.window.tabGroups.close(
    tabs.filter((tab) => sides(tab).some((uri) => wanted.has(uri.toString()))),
    true,
  );
}

/** The documents that a tab shows. */
export function sides({ input }: vscode.Tab): vscode.Uri[] {
  if (input instanceof vscode.TabInputText) return [input.uri];
  return input instanceof vscode.TabInputTextDiff ? [input.original, input.modified] : [];
}

/** The document of that scheme which the active editor shows. */
export function activeDocument(scheme: string): vscode.Uri | undefined {
  const tab = vscode.window.tabGroups.activeTabGroup.activeTab;
  return tab && sides(tab).find((uri) => uri.scheme === scheme);
}

const isOurs = (tab: vscode.Tab): boolean => sides(tab).some(({ scheme }) => SCHEMES.includes(scheme));
