import * as vscode from "vscode";

type Say = (message: string, ...items: unknown[]) => Thenable<unknown>;

interface Told {
  readonly severity: "information" | "warning" | "error";
  readonly message: string;
  readonly buttons: readonly string[];
}

/** Sits in front of the editor: types, picks and presses what a test says, and keeps what they were told. */
export class Person {
  readonly told: Told[] = [];
  /** What the pick lists offered. */
  readonly offered: string[][] = [];
  readonly #typed: string[] = [];
  readonly #picks: string[] = [];
  readonly #presses: string[] = [];

  constructor() {
    const window = vscode.window as unknown as Record<string, unknown>;
    window.showInputBox = () => Promise.resolve(this.#typed.shift());
    window.showQuickPick = (items: readonly { label: string }[]) => {
      this.offered.push(items.map((item) => item.label));
      const wanted = this.#picks.shift();
      return Promise.resolve(items.find((item) => item.label === wanted));
    };
    window.showInformationMessage = this.#listen("information");
    window.showWarningMessage = this.#listen("warning");
    window.showErrorMessage = this.#listen("error");
  }

  /** Everything that was left over from another test is gone. */
  reset(): void {
    for (const each of [this.told, this.offered, this.#typed, this.#picks, this.#presses]) each.length = 0;
  }

  /** What goes into the next input boxes; without it they are closed. */
  types(...texts: string[]): void {
    this.#typed.push(...texts);
  }

  /** What is picked in the next lists; without it they are closed. */
  picks(...labels: string[]): void {
    this.#picks.push(...labels);
  }

  /** The buttons that are pressed when they are next there; without it messages are left alone. */
  presses(...buttons: string[]): void {
    this.#presses.push(...buttons);
  }

  #listen(severity: Told["severity"]): Say {
    return (message, ...items) => {
      const buttons = items.filter((item) => typeof item === "string");
      this.told.push({ severity, message, buttons });
      const [wanted] = this.#presses;
      if (wanted === undefined || !buttons.includes(wanted)) return Promise.resolve(undefined);
      this.#presses.shift();
      return Promise.resolve(wanted);
    };
  }
}
