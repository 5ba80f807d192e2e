import path from "node:path";
import * as vscode from "vscode";
import { type Answers, resultAsMarkdown } from "./answers";
import * as config from "./config";
import type { ServiceConnection } from "./connection";
import type { CodeAgentResponse } from "./core/api";
import { type Destination, planEdit } from "./core/edits";
import { firstSentence, shortened } from "./core/wording";
import type { DiffView } from "./diffView";
import type { Memory } from "./memory";
import type { Notices } from "./notices";
import { makeEdit, type Proposals } from "./proposals";
import { beside, closeTabs } from "./virtualDocuments";

/** Brings what a run came to where it belongs, each result once. */
export class Delivery {
  constructor(
    private readonly connection: ServiceConnection,
    private readonly memory: Memory,
    private readonly answers: Answers,
    private readonly diffs: DiffView,
    private readonly proposals: Proposals,
    private readonly notices: Notices,
  ) {}

  /** The person waits for it: code goes in at once, unless they want to review it. `explain`: in a document. */
  async deliver(response: CodeAgentResponse, explain: boolean): Promise<void> {
    await this.memory.markDelivered(response.thread_id, response.run_id);
    const thread = this.memory.thread(response.thread_id);
    if (response.generated_code !== null) {
      await this.#place(
        thread?.place ?? null,
        response.generated_code,
        thread?.languageId ?? null,
        config.reviewsFirst(),
      );
    }
    const explanation = explain ? response.explanation : null;
    const document = explanation ? await this.answers.show("Explanation", `${explanation}\n`) : undefined;
    if (response.files_changed.length === 0) return;
    await this.showChanges(response.thread_id);
    if (explanation && document) this.#tellFinished(explanation, document);
  }

  /** All that the thread's latest run came to; code that was not given yet is offered as a diff. */
  async showResult(threadId: string): Promise<void> {
    const client = await this.connection.client();
    const { title, last_response: response } = await client.thread(threadId);
    if (!response) {
      void vscode.window.showInformationMessage("No run of this thread has come to an end yet.");
      return;
    }
    const thread = this.memory.thread(threadId);
    await this.answers.show("Result", resultAsMarkdown(title, response, thread?.languageId ?? null));
    if (thread?.place && response.generated_code !== null && thread.delivered !== response.run_id) {
      await this.#place(thread.place, response.generated_code, thread.languageId, true);
    }
    await this.memory.markDelivered(threadId, response.run_id);
  }

  /** What the thread changed in files. */
  async showChanges(threadId: string): Promise<void> {
    const client = await this.connection.client();
    const [{ project_directory: project }, diff] = await Promise.all([
      client.thread(threadId),
      client.diff(threadId),
    ]);
    if (diff === "") {
      void vscode.window.showInformationMessage("This thread has not changed any files.");
      return;
    }
    await this.diffs.showChanges(diff, project);
  }

  async #place(
    place: Destination | null,
    code: string,
    languageId: string | null,
    review: boolean,
  ): Promise<void> {
    if (!place) return this.#showBeside(code, languageId);
    const document = await opened(place);
    const name = path.posix.basename(vscode.Uri.parse(place.uri).path);
    if (!document)
      return this.#showBeside(code, languageId, `${name} cannot be written, so the code is shown beside.`);
    const plan = planEdit(place, document.getText(), code, review);
    switch (plan.kind) {
      case "lost":
        return this.#showBeside(
          code,
          languageId,
          `The code that you selected in ${name} is not there any more, so the result is shown beside.`,
        );
      case "review": {
        const why = plan.changed
          ? `${name} changed since you asked. Apply the agent's change to it?`
          : `Apply the agent's change to ${name}?`;
        return this.proposals.review(place, code, why);
      }
      case "apply":
        if (await makeEdit(document, plan.edit))
          vscode.window.setStatusBarMessage(`$(check) ${name} changed; Undo takes it back`, 8_000);
        else
          await this.#showBeside(code, languageId, `${name} cannot be changed, so the code is shown beside.`);
    }
  }

  /** The changes stand in front of the explanation. */
  #tellFinished(explanation: string, document: vscode.Uri): void {
    const message = `The agent finished. ${shortened(firstSentence(explanation), 160)}`.trim();
    const show = async (): Promise<void> => {
      await closeTabs([document]);
      await this.answers.show("Explanation", `${explanation}\n`);
    };
    void vscode.window.showInformationMessage(message, "Show Explanation").then((choice) => {
      if (choice) this.notices.inBackground(show());
    });
  }

  async #showBeside(code: string, languageId: string | null, why?: string): Promise<void> {
    const options = languageId === null ? { content: code } : { content: code, language: languageId };
    await vscode.window.showTextDocument(await vscode.workspace.openTextDocument(options), beside());
    if (why !== undefined) void vscode.window.showInformationMessage(why);
  }
}

async function opened(place: Destination): Promise<vscode.TextDocument | undefined> {
  const uri = vscode.Uri.parse(place.uri);
  if (uri.scheme !== "untitled" && vscode.workspace.fs.isWritableFileSystem(uri.scheme) === false)
    return undefined;
  try {
    return await vscode.workspace.openTextDocument(uri);
  } catch {
    return undefined;
  }
}
