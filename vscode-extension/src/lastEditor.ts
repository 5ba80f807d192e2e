import * as vscode from "vscode";

const SAMPLE = "def add(a, b):\n    return a + b\n";

/** The text editor that was last worked in: a walkthrough that takes its place asks about it too. */
export class LastEditor implements vscode.Disposable {
  #place: { readonly uri: vscode.Uri; readonly selection: vscode.Selection } | undefined;
  readonly #subscriptions: vscode.Disposable[];

  constructor() {
    this.#note(vscode.window.activeTextEditor);
    this.#subscriptions = [
      vscode.window.onDidChangeActiveTextEditor((editor) => this.#note(editor)),
      vscode.window.onDidChangeTextEditorSelection(({ textEditor }) => this.#note(textEditor)),
    ];
  }

  /** Show it again with its selection, or an example where there was none. */
  async bringBack(): Promise<void> {
    if (vscode.window.activeTextEditor) return;
    const place = this.#place ?? (await example());
    await vscode.window.showTextDocument(place.uri, { selection: place.selection, preview: false });
  }

  dispose(): void {
    for (const each of this.#subscriptions) each.dispose();
  }

  #note(editor: vscode.TextEditor | undefined): void {
    if (editor === undefined || !["file", "untitled"].includes(editor.document.uri.scheme)) return;
    if (editor === vscode.window.activeTextEditor)
      this.#place = { uri: editor.document.uri, selection: editor.selection };
  }
}

async function example(): Promise<{ uri: vscode.Uri; selection: vscode.Selection }> {
  const { uri } = await vscode.workspace.openTextDocument({ content: SAMPLE, language: "python" });
  return { uri, selection: new vscode.Selection(0, 0, 1, SAMPLE.length) };
}
