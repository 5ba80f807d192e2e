import * as vscode from "vscode";
import { count } from "./connection";
import type { Board } from "./core/board";
import { shortened } from "./core/wording";

/** One quiet item: how many questions wait, or that an agent works. */
export class StatusBar implements vscode.Disposable {
  readonly #item = vscode.window.createStatusBarItem("openhands.status", vscode.StatusBarAlignment.Left, 0);

  constructor(private readonly board: Board) {
    this.#item.name = "OpenHands";
    this.update();
    this.#item.show();
  }

  update(): void {
    const waiting = this.board.questions;
    const running = this.board.threads.filter((thread) => thread.place === "running").length;
    if (waiting.length > 0) {
      const text = count(waiting.length, "question");
      const first = shortened(waiting[0]?.request.question_for_human ?? "");
      this.#show(
        `$(comment-discussion) ${text}`,
        `OpenHands: ${text} for you. ${first}`,
        "openhands.answerQuestion",
      );
    } else if (running > 0) {
      const text = `${count(running, "agent")} working`;
      this.#show(`$(sync~spin) ${text}`, `OpenHands: ${text}`, "openhands.threads.focus");
    } else {
      this.#show("$(hubot) OpenHands", "OpenHands: show the agent threads", "openhands.threads.focus");
    }
    const background =
      waiting.length > 0 ? new vscode.ThemeColor("statusBarItem.warningBackground") : undefined;
    this.#item.backgroundColor = background;
  }

  dispose(): void {
    this.#item.dispose();
  }

  #show(text: string, tooltip: string, command: string): void {
    this.#item.text = text;
    this.#item.tooltip = tooltip;
    this.#item.command = command;
    this.#item.accessibilityInformation = { label: tooltip };
  }
}
