/** Request bodies from what is on the screen. */

import type { CodeAgentRequest, ContextualChatRequest, ModelQuality } from "./api";

/** So much of the active file is looked at by the service; more would be sent for nothing. */
const ACTIVE_FILE_CHARACTERS = 10_000;

/** Of a chat, the latest turns that together are not longer go along with a question. */
const CONVERSATION_CHARACTERS = 6_000;

/** One message of a chat. */
export interface Turn {
  readonly by: "person" | "model";
  readonly text: string;
}

export interface Screen {
  /** The active file's name, relative to its workspace folder where it has one. */
  readonly fileName: string;
  readonly languageId: string;
  readonly text: string;
  /** The selected text; empty for a mere cursor. */
  readonly selected: string;
  /** One-based lines of the selection. */
  readonly lines: readonly [number, number];
}

export function askRequest(
  prompt: string,
  screen: Screen | undefined,
  quality: ModelQuality | undefined,
): ContextualChatRequest {
  return {
    prompt,
    ...(screen?.selected && { selected_text: screen.selected }),
    ...(screen && hasMore(screen) && { active_file_content: screen.text.slice(0, ACTIVE_FILE_CHARACTERS) }),
    ...(quality && { model_quality: quality }),
  };
}

/** Whether the file holds anything beyond the selection. */
const hasMore = ({ text, selected }: Screen): boolean => text.trim() !== selected.trim();

/** The question with what was said before it. */
export function conversation(turns: readonly Turn[], question: string): string {
  const said: string[] = [];
  let length = 0;
  for (const { by, text } of [...turns].reverse()) {
    length += text.length;
    if (length > CONVERSATION_CHARACTERS) break;
    if (text.trim() !== "") said.unshift(`${by === "person" ? "I asked" : "You answered"}: ${text.trim()}`);
  }
  return said.length === 0 ? question : `${said.join("\n\n")}\n\nNow I ask: ${question}`;
}

/** How an instruction is to be carried out, as the settings say. */
export interface Manner {
  readonly quality?: ModelQuality | undefined;
  /** The agent asks before it changes a file. */
  readonly asksFirst?: boolean;
}

export function agentRequest(
  instruction: string,
  threadId: string,
  screen: Screen | undefined,
  projectDirectory: string | undefined,
  { quality, asksFirst = false }: Manner,
): CodeAgentRequest {
  return {
    instruction,
    thread_id: threadId,
    ...(screen && { context: contextOf(screen), language: screen.languageId }),
    ...(projectDirectory && { project_directory: projectDirectory }),
    ...(asksFirst && { approvals: { "*": "ask" } }),
    ...(quality && { model_quality: quality }),
  };
}

function contextOf({ fileName, selected, lines: [first, last] }: Screen): string {
  if (!selected) return `The cursor is in ${fileName}, line ${first}.`;
  const place = first === last ? `line ${first}` : `lines ${first} to ${last}`;
  return `Selected in ${fileName}, ${place}:\n${selected}`;
}
