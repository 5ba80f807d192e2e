import * as vscode from "vscode";
import { count, type ServiceConnection } from "./connection";
import type { BoardThread } from "./core/board";
import type { HistoryCheckpoint, ThreadRewound } from "./core/api";
import { sentence, shortened } from "./core/wording";
import { ago } from "./threadsView";

/** Let the person pick a moment of the thread, and take it back to there. Undefined when they left it. */
export async function rewind(connection: ServiceConnection, thread: BoardThread): Promise<void> {
  const client = await connection.client();
  const moments = (await client.history(thread.thread_id)).slice(1).filter((each) => each.messages > 0);
  if (moments.length === 0) {
    void vscode.window.showInformationMessage("This thread has no earlier moment to go back to.");
    return;
  }
  const title = `Rewind "${shortened(thread.title, 60)}"`;
  const moment = await vscode.window.showQuickPick(moments.map(described), {
    title,
    placeHolder: "Go back to just after...",
    ignoreFocusOut: true,
  });
  if (!moment) return;
  const choice = await vscode.window.showWarningMessage(
    `${title}?`,
    {
      modal: true,
      detail:
        "Files that somebody else changed in the meantime stay as they are. Open questions are withdrawn.",
    },
    "Conversation and Files",
    "Conversation Only",
  );
  if (!choice) return;
  const result = await client.rewind(thread.thread_id, moment.id, choice === "Conversation and Files");
  const message = rewound(result, choice === "Conversation and Files");
  void vscode.window.showInformationMessage(message, "Continue...").then((next) => {
    if (next) void vscode.commands.executeCommand("openhands.continueThread", thread);
  });
}

/** What a rewind came to, and what was not restored and why. */
function rewound({ restored, kept, notes }: ThreadRewound, files: boolean): string {
  const done = files
    ? `The thread was rewound, ${count(restored.length, "file")} restored.`
    : "The thread was rewound.";
  return [
    done,
    ...kept.map(({ path, reason }) => `${path} was left alone: ${sentence(reason)}`),
    ...notes,
  ].join(" ");
}

/** Returns whether the thread is gone. */
export async function remove(connection: ServiceConnection, thread: BoardThread): Promise<void> {
  const choice = await vscode.window.showWarningMessage(
    `Delete "${shortened(thread.title, 60)}"?`,
    {
      modal: true,
      detail: "The conversation and its history are deleted. Files in the project stay as they are.",
    },
    "Delete",
  );
  if (choice === "Delete") await (await connection.client()).delete(thread.thread_id);
}

function described(checkpoint: HistoryCheckpoint): vscode.QuickPickItem & { id: string } {
  return {
    id: checkpoint.checkpoint_id,
    label: shortened(checkpoint.summary, 80) || "The beginning",
    description: `${ago(Date.now() - Date.parse(checkpoint.created_at))}${checkpoint.waiting ? ", waiting for an answer" : ""}`,
  };
}
