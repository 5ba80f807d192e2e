import path from "node:path";
import * as vscode from "vscode";
import { count } from "./connection";
import type { Board, BoardThread, Place } from "./core/board";
import { shortened } from "./core/wording";
import type { Runs } from "./runs";

const GROUPS: readonly (readonly [Place, string])[] = [
  ["waiting", "Waiting for you"],
  ["running", "Running"],
  ["done", "Done"],
];
const ICONS: Readonly<Record<Place, string>> = {
  waiting: "comment-discussion",
  running: "sync~spin",
  done: "check",
};
const CLICK: Readonly<Record<Place, string>> = {
  waiting: "openhands.answerQuestion",
  running: "openhands.openDiff",
  done: "openhands.showResult",
};

interface Group {
  readonly place: Place;
  readonly label: string;
}

export type Node = Group | BoardThread;

/** The agent's threads by what they need from the person. */
export class ThreadsView implements vscode.TreeDataProvider<Node>, vscode.Disposable {
  readonly #changed = new vscode.EventEmitter<void>();
  readonly onDidChangeTreeData = this.#changed.event;
  readonly #view: vscode.TreeView<Node>;
  #drawn = "";

  constructor(
    private readonly board: Board,
    private readonly runs: Runs,
  ) {
    this.#view = vscode.window.createTreeView("openhands.threads", {
      treeDataProvider: this,
      showCollapseAll: false,
    });
  }

  /** Draws anew only what is different: a tree that is drawn closes its menus. */
  update(): void {
    const drawn = JSON.stringify(
      this.board.threads.map((each) => [each.thread_id, each.place, each.title, this.#detail(each)]),
    );
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#changed.fire();
    const waiting = this.board.questions.length;
    this.#view.badge =
      waiting > 0 ? { value: waiting, tooltip: `${count(waiting, "question")} for you` } : undefined;
  }

  getChildren(node?: Node): Node[] {
    if (!node) {
      return GROUPS.map(([place, label]) => ({ place, label })).filter((group) => this.#in(group).length > 0);
    }
    return "label" in node ? this.#in(node) : [];
  }

  getTreeItem(node: Node): vscode.TreeItem {
    return "label" in node ? this.#group(node) : this.#thread(node);
  }

  dispose(): void {
    this.#view.dispose();
    this.#changed.dispose();
  }

  #in(group: Group): BoardThread[] {
    return this.board.threads.filter((thread) => thread.place === group.place);
  }

  #group(group: Group): vscode.TreeItem {
    const item = new vscode.TreeItem(group.label, vscode.TreeItemCollapsibleState.Expanded);
    item.id = group.place;
    item.description = String(this.#in(group).length);
    item.contextValue = "group";
    return item;
  }

  #thread(thread: BoardThread): vscode.TreeItem {
    const failed = thread.status === "error";
    const item = new vscode.TreeItem(shortened(thread.title, 80));
    const detail = this.#detail(thread);
    item.id = `${thread.place}/${thread.thread_id}`;
    item.description = detail;
    item.contextValue = thread.place;
    item.iconPath = failed ? new vscode.ThemeIcon("error") : new vscode.ThemeIcon(ICONS[thread.place]);
    item.tooltip = [thread.title, detail, thread.project_directory, thread.thread_id]
      .filter(Boolean)
      .join("\n");
    item.accessibilityInformation = {
      label: `${thread.title}: ${failed ? "failed" : thread.place}, ${detail}`,
    };
    item.command = { command: CLICK[thread.place], title: "Open", arguments: [thread] };
    return item;
  }

  #detail(thread: BoardThread): string {
    const [question] = thread.questions;
    if (question) return shortened(question.question_for_human);
    if (thread.place === "running") return this.runs.activity(thread.thread_id) ?? "working";
    const folder = thread.project_directory === null ? "" : `${path.basename(thread.project_directory)}, `;
    return `${thread.status === "error" ? "failed, " : ""}${folder}${ago(Date.now() - Date.parse(thread.updated_at))}`;
  }
}

export function ago(milliseconds: number): string {
  const minutes = Math.floor(milliseconds / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h ago` : `${Math.floor(minutes / 1440)} days ago`;
}
