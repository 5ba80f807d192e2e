import type * as vscode from "vscode";

/** API keys in the editor's secret storage, each bound to the origin it was given for. */
export class ApiKeys {
  constructor(private readonly secrets: vscode.SecretStorage) {}

  get(baseUrl: string): Thenable<string | undefined> {
    return this.secrets.get(nameFor(baseUrl));
  }

  set(baseUrl: string, key: string): Thenable<void> {
    return this.secrets.store(nameFor(baseUrl), key);
  }

  clear(baseUrl: string): Thenable<void> {
    return this.secrets.delete(nameFor(baseUrl));
  }
}

const nameFor = (baseUrl: string): string => `apiKey ${new URL(baseUrl).origin}`;
