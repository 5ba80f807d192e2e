import * as vscode from "vscode";
import type { ServiceConnection } from "./connection";
import { Fault } from "./core/faults";
import { ToolCalls } from "./core/toolCalls";
import { wording } from "./core/wording";

export const VENDOR = "openhands";

/** What the service's router can be counted on to find; it looks for larger windows by itself. */
const WINDOW = { maxInputTokens: 120_000, maxOutputTokens: 8_000 };
/** An estimate, as for a context window that the router checks itself. */
const CHARACTERS_PER_TOKEN = 4;

type Message = vscode.LanguageModelChatRequestMessage;

/** The service's models in the editor's own chat: the whole pool as one model, and its aliases. */
export class ModelProvider implements vscode.LanguageModelChatProvider {
  readonly onDidChangeLanguageModelChatInformation: vscode.Event<void>;
  #aliases: readonly string[] = [];

  constructor(private readonly connection: ServiceConnection) {
    this.onDidChangeLanguageModelChatInformation = connection.onChanged;
  }

  /** While the service is away, what it had: a request then says that it is away. */
  async provideLanguageModelChatInformation(): Promise<vscode.LanguageModelChatInformation[]> {
    try {
      const names = await (await this.connection.client()).models();
      this.#aliases = names.filter((name) => !name.includes("/") && name !== "auto");
    } catch {
      // The views tell that already.
    }
    return ["auto", ...this.#aliases].map(information);
  }

  async provideLanguageModelChatResponse(
    model: vscode.LanguageModelChatInformation,
    messages: readonly Message[],
    options: vscode.ProvideLanguageModelChatResponseOptions,
    progress: vscode.Progress<vscode.LanguageModelResponsePart>,
    token: vscode.CancellationToken,
  ): Promise<void> {
    const leave = new AbortController();
    const subscription = token.onCancellationRequested(() => leave.abort());
    const client = await this.connection.client();
    const calls = new ToolCalls();
    try {
      for await (const piece of client.complete(requestBody(model.id, messages, options), leave.signal)) {
        if (piece.text) progress.report(new vscode.LanguageModelTextPart(piece.text));
        calls.add(piece.toolCalls);
      }
    } catch (error) {
      const where = { baseUrl: client.baseUrl, canStart: false, hasKey: await this.connection.hasKey() };
      const told = wording(error, where);
      if (told) throw error instanceof Fault ? new Error(told.message) : error;
    } finally {
      subscription.dispose();
    }
    for (const { id, name, input } of calls.whole()) {
      progress.report(new vscode.LanguageModelToolCallPart(id, name, input));
    }
  }

  provideTokenCount(_: vscode.LanguageModelChatInformation, text: string | Message): Promise<number> {
    const length = typeof text === "string" ? text.length : JSON.stringify(text.content).length;
    return Promise.resolve(Math.ceil(length / CHARACTERS_PER_TOKEN));
  }
}

/** Offer the models, where the editor can take them. */
export function registerModels(connection: ServiceConnection): vscode.Disposable {
  const registration = vscode.lm.registerLanguageModelChatProvider(VENDOR, new ModelProvider(connection));
  // The picker shows a provider's models only once somebody has asked for them.
  void vscode.lm.selectChatModels({ vendor: VENDOR });
  return registration;
}

function information(id: string): vscode.LanguageModelChatInformation {
  const name = id === "auto" ? "OpenHands" : `OpenHands ${id}`;
  const tooltip =
    id === "auto" ? "The best suitable model of the service's pool" : `The service's alias ${id}`;
  return { id, name, tooltip, family: VENDOR, version: "1", ...WINDOW, capabilities: { toolCalling: true } };
}

function requestBody(
  model: string,
  messages: readonly Message[],
  { tools = [], toolMode }: vscode.ProvideLanguageModelChatResponseOptions,
): Record<string, unknown> {
  const offered = tools.map(
    ({ name, description, inputSchema: parameters = { type: "object", properties: {} } }) => ({
      type: "function",
      function: { name, description, parameters },
    }),
  );
  const choice = toolMode === vscode.LanguageModelChatToolMode.Required ? "required" : "auto";
  return {
    model,
    messages: messages.flatMap(converted),
    ...(offered.length > 0 && { tools: offered, tool_choice: choice }),
  };
}

/** One message of the editor: tool results first, as messages of their own, then text and calls. */
function converted({ role, content }: Message): Record<string, unknown>[] {
  const results = content.filter((part) => part instanceof vscode.LanguageModelToolResultPart);
  const calls = content.filter((part) => part instanceof vscode.LanguageModelToolCallPart);
  const text = textOf(content);
  const messages: Record<string, unknown>[] = results.map((result) => ({
    role: "tool",
    tool_call_id: result.callId,
    content: textOf(result.content),
  }));
  if (text !== "" || calls.length > 0 || results.length === 0) {
    const called = calls.map(({ callId, name, input }) => ({
      id: callId,
      type: "function",
      function: { name, arguments: JSON.stringify(input) },
    }));
    messages.push({
      role: ROLES[role] ?? "system",
      content: text,
      ...(called.length > 0 && { tool_calls: called }),
    });
  }
  return messages;
}

/** The editor's own chat sends system messages too, with a number that this version of its API does not name. */
const ROLES: Readonly<Record<number, string>> = {
  [vscode.LanguageModelChatMessageRole.User]: "user",
  [vscode.LanguageModelChatMessageRole.Assistant]: "assistant",
};

function textOf(parts: readonly unknown[]): string {
  return parts.map((part) => (part instanceof vscode.LanguageModelTextPart ? part.value : "")).join("");
}
