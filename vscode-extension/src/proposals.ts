import path from "node:path";
import * as vscode from "vscode";
import { applied, type Destination, type Edit, planEdit } from "./core/edits";
import {
  activeDocument,
  beside,
  closeTabs,
  PROPOSAL_SCHEME,
  type VirtualDocuments,
} from "./virtualDocuments";

interface Proposal {
  readonly uri: vscode.Uri;
  readonly target: vscode.Uri;
  readonly place: Destination;
  readonly code: string;
}

/** Changes that are shown as a diff until the person applies or discards them. */
export class Proposals implements vscode.Disposable {
  readonly #open = new Map<string, Proposal>();
  readonly #subscription: vscode.Disposable;

  constructor(private readonly documents: VirtualDocuments) {
    this.#subscription = vscode.workspace.onDidChangeTextDocument(({ document }) => this.#follow(document));
  }

  /** Show the change and ask. `message` says why it was not simply made. */
  async review(place: Destination, code: string, message: string): Promise<void> {
    const target = vscode.Uri.parse(place.uri);
    const name = path.posix.basename(target.path);
    const document = await vscode.workspace.openTextDocument(target);
    const uri = this.documents.add(name, proposed(document, place, code), PROPOSAL_SCHEME);
    this.#open.set(uri.toString(), { uri, target, place, code });
    await vscode.commands.executeCommand("vscode.diff", target, uri, `${name} (proposed change)`, beside());
    void vscode.window.showInformationMessage(message, "Apply", "Discard").then((choice) => {
      if (choice === "Apply") void vscode.commands.executeCommand("openhands.applyProposal", uri);
      else if (choice === "Discard") void vscode.commands.executeCommand("openhands.discardProposal", uri);
    });
  }

  /** Make the change; without a name the one in the active editor. */
  async apply(uri = activeDocument(PROPOSAL_SCHEME)): Promise<void> {
    const proposal = uri && this.#open.get(uri.toString());
    if (!proposal) return;
    const document = await vscode.workspace.openTextDocument(proposal.target);
    const plan = planEdit(proposal.place, document.getText(), proposal.code, true);
    if (plan.kind === "lost") {
      void vscode.window.showWarningMessage(
        "The code that this change was for is not there any more; nothing was changed.",
      );
      return;
    }
    if (await makeEdit(document, plan.edit)) await this.discard(uri);
  }

  /** Close the diff and forget the change. */
  async discard(uri = activeDocument(PROPOSAL_SCHEME)): Promise<void> {
    if (!uri || !this.#open.delete(uri.toString())) return;
    await closeTabs([uri]);
  }

  dispose(): void {
    this.#subscription.dispose();
  }

  #follow(document: vscode.TextDocument): void {
    for (const { uri, target, place, code } of this.#open.values()) {
      if (target.toString() === document.uri.toString())
        this.documents.set(uri, proposed(document, place, code));
    }
  }
}

/** One undo step, and nothing outside of the edit. Returns whether the editor took it. */
export function makeEdit(document: vscode.TextDocument, edit: Edit): Thenable<boolean> {
  const change = new vscode.WorkspaceEdit();
  const range = new vscode.Range(document.positionAt(edit.start), document.positionAt(edit.end));
  change.replace(document.uri, range, edit.text);
  return vscode.workspace.applyEdit(change);
}

function proposed(document: vscode.TextDocument, place: Destination, code: string): string {
  const text = document.getText();
  const plan = planEdit(place, text, code, true);
  return plan.kind === "lost" ? text : applied(text, plan.edit);
}
