import * as vscode from "vscode";
import type { HumanInputRequest } from "./core/api";

/** Questions longer than this are cut by the box, and are shown whole beside it. */
const LONGEST_PROMPT = 160;
const OTHER = "Other...";

export const isLong = (question: string): boolean =>
  question.length > LONGEST_PROMPT || question.trim().includes("\n");

export interface PromptOptions {
  /** What was typed before. */
  readonly draft: string | undefined;
  /** Aborted when the question is open no longer. */
  readonly signal: AbortSignal;
  /** Told of text that was typed when the box is closed without an answer. */
  readonly onLeft: (typed: string) => void;
}

/** The person's answer to a question; undefined when they closed the box. */
export async function promptFor(
  request: HumanInputRequest,
  options: PromptOptions,
): Promise<string | undefined> {
  if (!request.options?.length || options.draft) return input(request, "Your answer", options);
  const picked = await pick(request, "Pick an answer", [...request.options, OTHER], options.signal);
  return picked === OTHER ? input(request, "Your own answer", options) : picked;
}

/** A no to an approval, in words; undefined when they closed the box. */
export async function askForReason(
  request: HumanInputRequest,
  options: PromptOptions,
): Promise<string | undefined> {
  const reason = await input(request, "What should the agent do instead?", options);
  // A remark that happens to begin with yes must not read like consent.
  return reason !== undefined && /^\s*y(es)?\b/i.test(reason) ? `No: ${reason}` : reason;
}

function pick(
  request: HumanInputRequest,
  placeholder: string,
  labels: string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const box = vscode.window.createQuickPick();
  box.title = `The agent asks: ${firstLine(request.question_for_human)}`;
  box.placeholder = placeholder;
  box.items = labels.map((label) => ({ label }));
  return shown(box, signal, () => box.selectedItems[0]?.label);
}

async function input(
  request: HumanInputRequest,
  placeholder: string,
  { draft, signal, onLeft }: PromptOptions,
): Promise<string | undefined> {
  const box = vscode.window.createInputBox();
  box.title = "The agent asks";
  box.prompt = firstLine(request.question_for_human);
  box.placeholder = placeholder;
  box.value = draft ?? "";
  const answer = await shown(box, signal, () => box.value.trim() || undefined);
  if (answer === undefined) onLeft(box.value);
  return answer;
}

/** What `accept` gives when the person presses Enter; without a value the box stays. */
function shown(
  box: vscode.InputBox | vscode.QuickPick<vscode.QuickPickItem>,
  signal: AbortSignal,
  accept: () => string | undefined,
): Promise<string | undefined> {
  box.ignoreFocusOut = true;
  return new Promise((resolve) => {
    const hide = (): void => box.hide();
    signal.addEventListener("abort", hide, { once: true });
    let value: string | undefined;
    box.onDidAccept(() => {
      value = accept();
      if (value !== undefined) box.hide();
    });
    box.onDidHide(() => {
      signal.removeEventListener("abort", hide);
      resolve(value);
      box.dispose();
    });
    box.show();
  });
}

function firstLine(question: string): string {
  if (!isLong(question)) return question.trim();
  const [line = ""] = question.trim().split("\n");
  return `${line.slice(0, LONGEST_PROMPT)} … (the whole question is shown beside)`;
}
