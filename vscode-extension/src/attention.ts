import * as vscode from "vscode";

/** Knows whether the person has turned to something else: a box that opens then would take their typing. */
export class Attention implements vscode.Disposable {
  #moves = 0;
  readonly #subscriptions: vscode.Disposable[];

  constructor() {
    const moved = (): void => {
      this.#moves++;
    };
    this.#subscriptions = [
      vscode.window.onDidChangeTextEditorSelection(({ kind }) => {
        if (
          kind === vscode.TextEditorSelectionChangeKind.Keyboard ||
          kind === vscode.TextEditorSelectionChangeKind.Mouse
        )
          moved();
      }),
      vscode.window.onDidChangeActiveTextEditor(moved),
      vscode.window.onDidChangeActiveTerminal(moved),
    ];
  }

  /** A function that tells whether the person has done nothing in an editor since now. */
  watch(): () => boolean {
    const moves = this.#moves;
    return () => vscode.window.state.focused && this.#moves === moves;
  }

  dispose(): void {
    for (const each of this.#subscriptions) each.dispose();
  }
}
