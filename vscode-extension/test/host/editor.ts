import assert from "node:assert/strict";
import * as vscode from "vscode";
import { Person } from "./person";
import { FakeService } from "./service";

export const CALC = "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n";
export const BETTER = "def add(a, b):\n    return int(a) + int(b)";

/** What the tests of a file are: name -> test. */
export type Tests = Readonly<Record<string, () => Promise<void>>>;

export const person = new Person();
let service: FakeService | undefined;

/** The service that the settings name. */
export function theService(): FakeService {
  assert.ok(service);
  return service;
}

/** Everything as it was, before each test. */
export async function tidy(): Promise<void> {
  service ??= await FakeService.start();
  person.reset();
  service.reset();
  await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
  await vscode.commands.executeCommand("workbench.action.closeAllEditors");
  await configure("api.baseUrl", service.url);
  for (const name of ["apply", "approvals", "service.command"]) await configure(name, undefined);
}

export const configure = (name: string, value: unknown): Thenable<void> =>
  vscode.workspace.getConfiguration("openhands").update(name, value, vscode.ConfigurationTarget.Global);

/** Open a file of a folder of the workspace, with these lines, one-based, selected. */
export async function open(
  folder: "alpha" | "beta",
  lines?: readonly [number, number],
): Promise<vscode.TextEditor> {
  const root = vscode.workspace.workspaceFolders?.find(({ name }) => name === folder);
  assert.ok(root);
  const editor = await vscode.window.showTextDocument(vscode.Uri.joinPath(root.uri, "calc.py"));
  if (lines) {
    const end = editor.document.lineAt(lines[1] - 1).range.end;
    editor.selection = new vscode.Selection(new vscode.Position(lines[0] - 1, 0), end);
  }
  return editor;
}

export const command = <T>(name: string, ...args: unknown[]): Thenable<T> =>
  vscode.commands.executeCommand<T>(`openhands.${name}`, ...args);

/** The value as soon as there is one. */
export async function until<T>(what: string, check: () => T | undefined | false): Promise<T> {
  const end = Date.now() + 10_000;
  while (Date.now() < end) {
    const value = check();
    if (value !== undefined && value !== false) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`timed out waiting for ${what}; told: ${JSON.stringify(person.told)}`);
}

/** The message with this part, once it is there. */
export const told = (part: string): Promise<Person["told"][number]> =>
  until(`the message ${part}`, () => person.told.find(({ message }) => message.includes(part)));

/** The text of the latest answer to a question. */
export const latestAnswer = (): string | undefined =>
  vscode.workspace.textDocuments.findLast(({ uri }) => uri.path.includes("/Answer "))?.getText();

/** The tabs of all groups, by their labels. */
export const tabs = (): string[] =>
  vscode.window.tabGroups.all.flatMap((group) => group.tabs.map((tab) => tab.label));
