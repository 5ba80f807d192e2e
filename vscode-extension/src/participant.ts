import { randomUUID } from "node:crypto";
import * as vscode from "vscode";
import { fenced } from "./answers";
import { mayRun } from "./codeAgent";
import * as config from "./config";
import type { ServiceConnection } from "./connection";
import type { HumanInputRequest } from "./core/api";
import { Fault } from "./core/faults";
import { HarmlessStream, withoutImages } from "./core/markdown";
import { agentRequest, askRequest } from "./core/requests";
import type { Session } from "./core/session";
import { wording } from "./core/wording";
import type { Runs } from "./runs";
import { capture, projectFolder } from "./screen";

const FIX = "Fix the selected code.";

/** `@openhands` in the editor's chat: `/ask`, `/agent` and `/fix`. */
export function registerParticipant(connection: ServiceConnection, runs: Runs): { dispose(): unknown } {
  const participant = vscode.chat.createChatParticipant(
    "openhands.chat",
    async (request, _, stream, token) => {
      const leave = new AbortController();
      const subscription = token.onCancellationRequested(() => leave.abort());
      try {
        if (request.command === "agent" || request.command === "fix")
          await runAgent(request, stream, runs, leave.signal);
        else await ask(request.prompt, stream, connection, leave.signal);
      } catch (error) {
        const where = { baseUrl: config.baseUrl(), canStart: false, hasKey: await connection.hasKey() };
        const told = wording(error, where);
        if (!(error instanceof Fault) || told) stream.markdown(told?.message ?? String(error));
      } finally {
        subscription.dispose();
      }
    },
  );
  participant.iconPath = new vscode.ThemeIcon("hubot");
  return participant;
}

async function ask(
  prompt: string,
  stream: vscode.ChatResponseStream,
  connection: ServiceConnection,
  signal: AbortSignal,
): Promise<void> {
  const client = await connection.client();
  const text = new HarmlessStream();
  for await (const piece of client.ask(
    askRequest(prompt, capture()?.screen, config.modelQuality()),
    signal,
  )) {
    stream.markdown(text.push(piece.text));
  }
  stream.markdown(text.end());
}

async function runAgent(
  request: vscode.ChatRequest,
  stream: vscode.ChatResponseStream,
  runs: Runs,
  signal: AbortSignal,
): Promise<void> {
  if (!(await mayRun())) return;
  const captured = capture();
  const instruction = request.command === "fix" ? `${FIX} ${request.prompt}`.trim() : request.prompt;
  const project = await projectFolder(captured?.document);
  const body = agentRequest(instruction, randomUUID(), captured?.screen, project, config.modelQuality());
  const thread = {
    instruction,
    languageId: captured?.screen.languageId ?? null,
    place: captured?.place ?? null,
  };
  // Where this fails the progress notification still has its own button.
  signal.addEventListener("abort", () => void runs.cancel(body.thread_id).catch(() => undefined), {
    once: true,
  });
  let shown = "";
  await runs.invoke(body, thread, (session) => {
    if (session.activity !== shown) stream.progress((shown = session.activity));
    if (session.response) tellEnd(session, stream, thread.languageId);
  });
}

function tellEnd(session: Session, stream: vscode.ChatResponseStream, languageId: string | null): void {
  const { response, questions } = session;
  if (response?.explanation) stream.markdown(`${withoutImages(response.explanation)}\n\n`);
  if (response?.generated_code) stream.markdown(fenced(response.generated_code, languageId ?? ""));
  if (response?.error_details) stream.markdown(`**${response.error_details}**`);
  for (const question of questions) tellQuestion(session.threadId, question, stream);
}

/** The question with a button for each answer; the run goes on where the person answers. */
function tellQuestion(
  threadId: string,
  question: HumanInputRequest,
  stream: vscode.ChatResponseStream,
): void {
  const button = (title: string, answer?: string): void =>
    stream.button({
      command: "openhands.answerQuestion",
      title,
      arguments: [{ thread_id: threadId }, question.tool_call_id, answer],
    });
  stream.markdown(`**The agent asks:** ${withoutImages(question.question_for_human)}\n\n`);
  if (question.preview) stream.markdown(fenced(question.preview, "diff"));
  if (question.kind === "approval") {
    button("Yes, allow it", "yes");
    button("No", "no");
  }
  for (const option of question.options ?? []) button(option, option);
  button(question.kind === "approval" || question.options?.length ? "Other..." : "Answer");
}
