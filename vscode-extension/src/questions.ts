import * as vscode from "vscode";
import type { Answers } from "./answers";
import type { Approvals } from "./approvals";
import type { Board, Changes, OpenQuestion } from "./core/board";
import { questionKey } from "./core/board";
import { shortened } from "./core/wording";
import { isLong, promptFor } from "./humanPrompt";
import type { Memory } from "./memory";
import type { Notices } from "./notices";
import { closeTabs } from "./virtualDocuments";
import type { Asked, Runs } from "./runs";

const ELSEWHERE = "answered elsewhere";

/** Sees to it that no question is missed, and none is asked twice. */
export class Questions {
  readonly #noticed = new Set<string>();
  #prompting: { readonly key: string; readonly close: AbortController } | undefined;

  constructor(
    private readonly board: Board,
    private readonly runs: Runs,
    private readonly memory: Memory,
    private readonly approvals: Approvals,
    private readonly answers: Answers,
    private readonly notices: Notices,
    private readonly look: () => Promise<void>,
  ) {}

  /** A run that is followed here asks. It comes before the eyes by itself only of somebody who waited for it. */
  asked({ question, waitedFor, staged }: Asked): void {
    this.#noticed.add(questionKey(question));
    const announce = async (): Promise<void> => {
      await this.look();
      if (waitedFor && staged) return;
      if (waitedFor && !this.#prompting) await this.ask(question);
      else this.#notify(question);
    };
    this.notices.inBackground(announce());
  }

  /** What the board saw: questions of other windows, and those that are open no longer. */
  changed({ opened, closed }: Changes): void {
    for (const question of closed) {
      if (this.#prompting?.key === questionKey(question)) this.#prompting.close.abort(ELSEWHERE);
      this.notices.inBackground(this.#closeApproval(question));
    }
    for (const question of opened) {
      if (this.runs.isFollowed(question.threadId) || this.#noticed.has(questionKey(question))) continue;
      if (this.#isOurs(question.threadId)) this.#notify(question);
    }
  }

  /** Let the person answer now: that question, the only one, or the one they pick. `text`: they did already. */
  async answer(threadId?: string, callId?: string, text?: string): Promise<void> {
    const open = this.board.questions.filter(
      (each) =>
        (threadId === undefined || each.threadId === threadId) &&
        (callId === undefined || each.request.tool_call_id === callId),
    );
    const question = open.length > 1 ? await this.#pick(open) : open[0];
    if (question) await (text === undefined ? this.ask(question) : this.runs.answer(question, text));
    else if (open.length === 0)
      void vscode.window.showInformationMessage("No question is waiting for you here.");
  }

  /** Open the box for this question, or show what is to be allowed. Closed without an answer, the question stays. */
  async ask(question: OpenQuestion): Promise<void> {
    if (question.request.kind === "approval") {
      // The notification may stay as long as the question; nobody waits for it.
      this.notices.inBackground(this.approvals.ask(question, this.#project(question.threadId)));
    } else await this.#prompt(question);
  }

  async #prompt(question: OpenQuestion): Promise<void> {
    const key = questionKey(question);
    if (this.#prompting?.key === key) return;
    this.#prompting?.close.abort();
    const prompting = { key, close: new AbortController() };
    this.#prompting = prompting;
    let answer: string | undefined;
    let shown: vscode.Uri[] = [];
    try {
      shown = await this.#showWhatItIsAbout(question);
      answer = await promptFor(question.request, {
        draft: this.memory.draft(key),
        signal: prompting.close.signal,
        onLeft: (typed) => void this.memory.setDraft(key, typed),
      });
    } finally {
      if (this.#prompting === prompting) this.#prompting = undefined;
      await closeTabs(shown);
    }
    if (answer !== undefined) await this.runs.answer(question, answer);
    else if (prompting.close.signal.reason === ELSEWHERE) tellAnsweredElsewhere();
  }

  async #closeApproval(question: OpenQuestion): Promise<void> {
    if (await this.approvals.close(question)) tellAnsweredElsewhere();
  }

  /** Returns the documents to close when the question is out of sight. */
  async #showWhatItIsAbout({ request }: OpenQuestion): Promise<vscode.Uri[]> {
    return isLong(request.question_for_human)
      ? [await this.answers.show("Question", request.question_for_human)]
      : [];
  }

  #notify(question: OpenQuestion): void {
    const key = questionKey(question);
    this.#noticed.add(key);
    const { kind, question_for_human: asked } = question.request;
    const [message, open] =
      kind === "approval" ? [shortened(asked), "Review"] : [`The agent asks: ${shortened(asked)}`, "Answer"];
    void vscode.window.showInformationMessage(message, open, "Later").then((choice) => {
      if (choice !== open) return;
      if (this.board.questions.some((each) => questionKey(each) === key))
        this.notices.inBackground(this.ask(question));
      else void vscode.window.showInformationMessage("This question was answered in the meantime.");
    });
  }

  async #pick(open: readonly OpenQuestion[]): Promise<OpenQuestion | undefined> {
    const items = open.map((question) => ({
      label: shortened(question.request.question_for_human, 80),
      description: this.board.thread(question.threadId)?.title ?? "",
      question,
    }));
    const picked = await vscode.window.showQuickPick(items, {
      title: "Questions that wait for you",
      ignoreFocusOut: true,
    });
    return picked?.question;
  }

  /** Whether the thread was started here, or works in a folder of this window. */
  #isOurs(threadId: string): boolean {
    if (this.memory.thread(threadId)) return true;
    const project = this.#project(threadId);
    return project !== null && vscode.workspace.getWorkspaceFolder(vscode.Uri.file(project)) !== undefined;
  }

  #project(threadId: string): string | null {
    return this.board.thread(threadId)?.project_directory ?? null;
  }
}

function tellAnsweredElsewhere(): void {
  vscode.window.setStatusBarMessage("$(check) Answered elsewhere", 8_000);
}
