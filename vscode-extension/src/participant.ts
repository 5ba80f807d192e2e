import { randomUUID } from "node:crypto";
import * as vscode from "vscode";
import { ChatStage, type Trace } from "./chatStage";
import { remembered, whyNot } from "./codeAgent";
import * as config from "./config";
import type { ServiceConnection } from "./connection";
import type { CodeAgentRequest } from "./core/api";
import type { OpenQuestion } from "./core/board";
import { hasCode } from "./core/faults";
import { HarmlessStream } from "./core/markdown";
import { agentRequest, askRequest, conversation, type Turn } from "./core/requests";
import type { Notices } from "./notices";
import { REMEDIES } from "./remedies";
import type { Runs } from "./runs";
import { capture, type Captured, projectFolder } from "./screen";

const FIX = "Fix the selected code.";

/** `@openhands` in the editor's chat: `/ask`, `/agent` and `/fix`. Text after a question is its answer. */
export class Participant {
  constructor(
    private readonly connection: ServiceConnection,
    private readonly runs: Runs,
    private readonly notices: Notices,
  ) {}

  register(): { dispose(): unknown } {
    const participant = vscode.chat.createChatParticipant(
      "openhands.chat",
      async (request, { history }, stream, token) => {
        const leave = new AbortController();
        const subscription = token.onCancellationRequested(() => leave.abort());
        try {
          return await this.#respond(request, history, stream, leave.signal);
        } catch (error) {
          await this.#tell(error, stream);
          return resultOf(traceOf(history.at(-1)));
        } finally {
          subscription.dispose();
        }
      },
    );
    participant.iconPath = new vscode.ThemeIcon("hubot");
    return participant;
  }

  async #respond(
    { command, prompt }: vscode.ChatRequest,
    history: readonly ChatTurn[],
    stream: vscode.ChatResponseStream,
    signal: AbortSignal,
  ): Promise<vscode.ChatResult> {
    if (command === "agent" || command === "fix") {
      const instruction = command === "fix" ? `${FIX} ${prompt}`.trim() : prompt.trim();
      return this.#instruct(instruction, history, stream, signal);
    }
    const question = command === undefined ? await this.#openQuestion(history.at(-1)) : undefined;
    if (question) return this.#answer(question, prompt, stream, signal);
    await this.#ask(conversation(turnsOf(history), prompt), stream, signal);
    return {};
  }

  async #ask(prompt: string, stream: vscode.ChatResponseStream, signal: AbortSignal): Promise<void> {
    const client = await this.connection.client();
    const text = new HarmlessStream();
    const request = askRequest(prompt, capture()?.screen, config.modelQuality());
    for await (const piece of client.ask(request, signal)) stream.markdown(text.push(piece.text));
    stream.markdown(text.end());
  }

  async #instruct(
    instruction: string,
    history: readonly ChatTurn[],
    stream: vscode.ChatResponseStream,
    signal: AbortSignal,
  ): Promise<vscode.ChatResult> {
    const why = whyNot();
    if (why !== undefined || instruction === "") {
      stream.markdown(why ?? "What should the agent do? Write it after `/agent`.");
      return {};
    }
    const captured = capture();
    const body = await this.#request(instruction, history, captured);
    const chat = new ChatStage(body.thread_id, stream, signal, captured?.screen.languageId ?? "");
    await this.runs.invoke(body, remembered(instruction, captured), chat);
    return resultOf(chat.trace);
  }

  /** The chat's thread goes on where it is free to; else a new one begins. */
  async #request(
    instruction: string,
    history: readonly ChatTurn[],
    captured: Captured | undefined,
  ): Promise<CodeAgentRequest> {
    const known = history.map(traceOf).findLast((trace) => trace !== undefined)?.threadId;
    const free = known !== undefined && (await this.#isFree(known));
    const project = free ? undefined : await projectFolder(captured?.document);
    const threadId = free ? known : randomUUID();
    return agentRequest(instruction, threadId, captured?.screen, project, config.manner());
  }

  async #isFree(threadId: string): Promise<boolean> {
    try {
      const { status } = await (await this.connection.client()).thread(threadId);
      return status === "idle" || status === "error";
    } catch (error) {
      if (hasCode(error, "thread_not_found")) return false;
      throw error;
    }
  }

  async #answer(
    question: OpenQuestion,
    text: string,
    stream: vscode.ChatResponseStream,
    signal: AbortSignal,
  ): Promise<vscode.ChatResult> {
    const chat = new ChatStage(question.threadId, stream, signal, "");
    await this.runs.answer(question, text, chat);
    return resultOf(chat.trace);
  }

  /** The question that the latest answer ended with, if nobody has answered it since. */
  async #openQuestion(turn: ChatTurn | undefined): Promise<OpenQuestion | undefined> {
    const trace = traceOf(turn);
    if (!trace?.callId) return undefined;
    const { threadId, callId } = trace;
    const { pending_requests: open } = await (await this.connection.client()).thread(threadId);
    const request = open.find((each) => each.tool_call_id === callId);
    return request && { threadId, request };
  }

  async #tell(error: unknown, stream: vscode.ChatResponseStream): Promise<void> {
    const told = await this.notices.word(error);
    if (!told) return;
    stream.markdown(told.message);
    for (const remedy of told.remedies) {
      if (remedy !== "retry") stream.button(REMEDIES[remedy]); // the chat has a button of its own for that
    }
  }
}

type ChatTurn = vscode.ChatRequestTurn | vscode.ChatResponseTurn;

const resultOf = (trace: Trace | undefined): vscode.ChatResult => (trace ? { metadata: trace } : {});

function traceOf(turn: ChatTurn | undefined): Trace | undefined {
  if (!(turn instanceof vscode.ChatResponseTurn)) return undefined;
  const trace = turn.result.metadata as Partial<Trace> | undefined;
  return trace?.threadId === undefined
    ? undefined
    : { threadId: trace.threadId, callId: trace.callId ?? null };
}

function turnsOf(history: readonly ChatTurn[]): Turn[] {
  return history.map((turn) =>
    turn instanceof vscode.ChatRequestTurn
      ? { by: "person", text: turn.prompt }
      : { by: "model", text: turn.response.map(textOf).join("") },
  );
}

const textOf = (part: unknown): string =>
  part instanceof vscode.ChatResponseMarkdownPart ? part.value.value : "";
