import * as vscode from "vscode";
import type { Answers } from "./answers";
import * as config from "./config";
import type { ServiceConnection } from "./connection";
import type { ContextualChatRequest } from "./core/api";
import { askRequest } from "./core/requests";
import type { Notices } from "./notices";
import { inProgress } from "./progress";
import { capture } from "./screen";

/** Ask OpenHands: a prompt with what is on the screen; the answer is written beside. Nothing is ever edited. */
export class Ask {
  constructor(
    private readonly connection: ServiceConnection,
    private readonly answers: Answers,
    private readonly notices: Notices,
  ) {}

  async run(): Promise<void> {
    const captured = capture();
    const prompt = await vscode.window.showInputBox({
      title: "Ask OpenHands",
      prompt: captured?.screen.selected ? "Your question about the selection" : "Your question",
      placeHolder: "What does this do?",
      ignoreFocusOut: true,
    });
    if (!prompt?.trim()) return;
    const request = askRequest(prompt, captured?.screen, config.modelQuality());
    await this.notices.guard(() => this.#stream(prompt, request))();
  }

  async #stream(prompt: string, request: ContextualChatRequest): Promise<void> {
    const client = await this.connection.client();
    const leave = new AbortController();
    const cancel = (): void => leave.abort();
    await inProgress("OpenHands is answering", cancel, () =>
      this.answers.stream(prompt, client.ask(request, leave.signal)),
    );
  }
}
