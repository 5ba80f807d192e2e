import * as vscode from "vscode";
import { type OpenQuestion, questionKey } from "./core/board";
import { shortened } from "./core/wording";
import type { DiffView } from "./diffView";
import { askForReason } from "./humanPrompt";
import type { Memory } from "./memory";
import type { Runs } from "./runs";
import { activeDocument, closeTabs, WANTED_SCHEME } from "./virtualDocuments";

const BUTTONS = { allow: "Allow", refuse: "Refuse", refuseBecause: "Refuse with a Reason..." } as const;
const ANSWERS = { allow: "yes", refuse: "no" } as const;

export type Decision = keyof typeof BUTTONS;

const DECISIONS = Object.keys(BUTTONS) as Decision[];

interface Shown {
  readonly question: OpenQuestion;
  /** Documents that show what is wanted. */
  documents: readonly vscode.Uri[];
  /** Aborted when the question is open no longer. */
  readonly closed: AbortController;
}

/** What the agent wants to do, in full view until the person has decided; no key that they press elsewhere decides. */
export class Approvals {
  readonly #shown = new Map<string, Shown>();

  constructor(
    private readonly runs: Runs,
    private readonly memory: Memory,
    private readonly diffs: DiffView,
  ) {}

  /** Show what is wanted, and ask. It stays in view, with buttons of its own, when the notification is gone. */
  async ask(question: OpenQuestion, project: string | null): Promise<void> {
    await this.close(question);
    const shown: Shown = { question, documents: [], closed: new AbortController() };
    this.#shown.set(questionKey(question), shown);
    const { preview, question_for_human: asked } = question.request;
    if (preview) shown.documents = await this.diffs.showPreview(preview, project);
    if (shown.closed.signal.aborted) return closeTabs(shown.documents);
    const choice = await vscode.window.showInformationMessage(shortened(asked), ...Object.values(BUTTONS));
    const decision = DECISIONS.find((each) => BUTTONS[each] === choice);
    if (decision === undefined) return;
    if (this.#isOpen(shown)) await this.#decide(shown, decision);
    else void vscode.window.showInformationMessage("This question was answered in the meantime.");
  }

  /** Decide about what this document shows; without a name, the one in the active editor. */
  async decide(decision: Decision, uri = activeDocument(WANTED_SCHEME)): Promise<void> {
    const shown = [...this.#shown.values()].find(({ documents }) =>
      documents.some((each) => each.toString() === uri?.toString()),
    );
    if (shown) await this.#decide(shown, decision);
  }

  /** Take it out of view. Returns whether it was there. */
  async close(question: OpenQuestion): Promise<boolean> {
    const key = questionKey(question);
    const shown = this.#shown.get(key);
    this.#shown.delete(key);
    shown?.closed.abort();
    if (shown) await closeTabs(shown.documents);
    return shown !== undefined;
  }

  #isOpen(shown: Shown): boolean {
    return this.#shown.get(questionKey(shown.question)) === shown;
  }

  async #decide(shown: Shown, decision: Decision): Promise<void> {
    const { question } = shown;
    const answer = decision === "refuseBecause" ? await this.#reason(shown) : ANSWERS[decision];
    if (answer === undefined || !this.#isOpen(shown)) return;
    await this.close(question);
    await this.runs.answer(question, answer);
  }

  #reason({ question, closed }: Shown): Promise<string | undefined> {
    const key = questionKey(question);
    return askForReason(question.request, {
      draft: this.memory.draft(key),
      signal: closed.signal,
      onLeft: (typed) => void this.memory.setDraft(key, typed),
    });
  }
}
