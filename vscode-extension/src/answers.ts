import * as vscode from "vscode";
import type { CodeAgentResponse } from "./core/api";
import { withoutImages } from "./core/markdown";
import { beside, closeTabs, type VirtualDocuments } from "./virtualDocuments";

/** How often a growing answer is shown anew. */
const SHOW_MS = 100;

/** Answers as Markdown documents, beside and without taking the focus. */
export class Answers {
  #number = 0;

  constructor(private readonly documents: VirtualDocuments) {}

  async show(name: string, markdown: string): Promise<vscode.Uri> {
    const uri = this.documents.add(`${name}.md`, withoutImages(markdown));
    await vscode.window.showTextDocument(uri, beside());
    return uri;
  }

  /** Write an answer while it comes. Throws what `pieces` throws; what came until then stays to be read. */
  async stream(question: string, pieces: AsyncIterable<{ text: string }>): Promise<void> {
    const head =
      question
        .split("\n")
        .map((line) => `> ${line}`)
        .join("\n") + "\n\n";
    const uri = this.documents.add(`Answer ${++this.#number}.md`, `${head}…\n`);
    await vscode.window.showTextDocument(uri, beside());
    let text = "";
    let timer: NodeJS.Timeout | undefined;
    const write = (end: string): void => {
      clearTimeout(timer);
      timer = undefined;
      this.documents.set(uri, head + withoutImages(text) + end);
    };
    try {
      for await (const piece of pieces) {
        text += piece.text;
        timer ??= setTimeout(() => write(" …\n"), SHOW_MS);
      }
      write("\n");
    } catch (error) {
      if (text === "") await closeTabs([uri]);
      else write("\n\n*The answer ends here: it was not finished.*\n");
      throw error;
    }
  }
}

/** All that a run came to, as Markdown. */
export function resultAsMarkdown(
  title: string,
  response: CodeAgentResponse,
  languageId: string | null,
): string {
  const parts = [`# ${title.replaceAll("\n", " ")}`];
  if (response.error_details) parts.push(`**${response.error_details}**`);
  if (response.explanation) parts.push(response.explanation);
  if (response.generated_code) parts.push(fenced(response.generated_code, languageId ?? ""));
  const files = response.files_changed.map(
    (file) => `- \`${file.path}\` ${file.action}, +${file.additions} -${file.deletions}`,
  );
  if (files.length > 0) parts.push(files.join("\n"));
  if (response.model_used) parts.push(`*${response.model_used}*`);
  return `${parts.join("\n\n")}\n`;
}

export function fenced(code: string, tag: string): string {
  const longest = Math.max(0, ...(code.match(/`{3,}/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(Math.max(3, longest + 1));
  return `${fence}${tag}\n${code.replace(/\n$/, "")}\n${fence}`;
}
