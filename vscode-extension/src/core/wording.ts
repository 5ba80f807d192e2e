/** What a person is told when something fails: one sentence, and the buttons that help. */

import { Fault } from "./faults";

export type Remedy = "retry" | "settings" | "key" | "start" | "install" | "trust" | "log";

export const REMEDY_TITLES: Readonly<Record<Remedy, string>> = {
  retry: "Retry",
  settings: "Open Settings",
  key: "Set API Key",
  start: "Start Service",
  install: "How to Install",
  trust: "Manage Trust",
  log: "Show Log",
};

export interface Told {
  readonly message: string;
  readonly remedies: readonly Remedy[];
}

export interface Surroundings {
  readonly baseUrl: string;
  /** Whether *Start Service* would work. */
  readonly canStart: boolean;
  /** Whether a key is sent. */
  readonly hasKey: boolean;
}

/** Undefined when there is nothing to tell: who cancels knows it. */
export function wording(error: unknown, where: Surroundings): Told | undefined {
  if (!(error instanceof Fault)) {
    const message = error instanceof Error ? error.message : String(error);
    return { message: `Something unexpected went wrong: ${sentence(message)}`, remedies: ["log"] };
  }
  switch (error.kind) {
    case "cancelled":
      return undefined;
    case "unreachable":
      return {
        message: `No service answers at ${where.baseUrl} (${error.message}).`,
        remedies: where.canStart ? ["start", "retry", "settings"] : ["retry", "settings", "log"],
      };
    case "timeout":
      return {
        message: `The service at ${where.baseUrl} did not answer in time.`,
        remedies: ["retry", "settings", "log"],
      };
    case "settings":
      return { message: sentence(error.message), remedies: ["settings"] };
    case "missing":
      return { message: sentence(error.message), remedies: ["install", "settings"] };
    case "program":
      return { message: sentence(error.message), remedies: ["retry", "log"] };
    case "untrusted":
      return { message: sentence(error.message), remedies: ["trust"] };
    case "cut":
      return { message: "The connection to the service broke off.", remedies: ["retry", "log"] };
    case "malformed":
      return {
        message: `What answers at ${where.baseUrl} is not the service, or another version of it: ${sentence(error.message)}`,
        remedies: ["settings", "log"],
      };
    case "http":
      return refused(error, where);
  }
}

function refused(error: Fault, where: Surroundings): Told {
  const message = sentence(error.message);
  switch (error.status) {
    case 401: {
      const wrong = where.hasKey ? "does not accept the API key" : "wants an API key";
      return { message: `The service at ${where.baseUrl} ${wrong}.`, remedies: ["key", "settings"] };
    }
    case 403:
    case 421:
      return { message, remedies: ["settings", "log"] };
    case 404:
    case 409:
    case 413:
    case 422:
      return { message, remedies: ["log"] };
    case 429:
    case 502:
    case 503:
    case 504:
    case undefined:
      return { message: message + later(error.retryAfterSeconds), remedies: ["retry", "log"] };
    default:
      return { message, remedies: error.status >= 500 ? ["retry", "log"] : ["log"] };
  }
}

function later(seconds: number | undefined): string {
  if (seconds === undefined || seconds < 2) return "";
  const wait = seconds < 120 ? `${Math.ceil(seconds)} seconds` : `${Math.ceil(seconds / 60)} minutes`;
  return ` Try again in ${wait}.`;
}

/** The text with a full stop, where it has none. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  return /[.!?…]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}

/** One line, cut where it is longer. */
export function shortened(text: string, length = 120): string {
  const line = unlinked(text).replace(/\s+/g, " ").trim();
  return line.length > length ? `${line.slice(0, length - 1)}…` : line;
}

/** The text as it stands: a notification makes links of what looks like one, and such a link can run commands. */
export const unlinked = (text: string): string => text.replaceAll("](", "] (");

/** The first sentence of a Markdown text, without its marks; empty where there is only code. */
export function firstSentence(markdown: string): string {
  const prose = markdown
    .replace(/^ {0,3}(`{3,}|~{3,})[^]*?(^ {0,3}\1|$(?![^]))/gm, "")
    .replace(/^ {0,3}#.*$/gm, "");
  const [paragraph = ""] = prose.trim().split(/\n\s*\n/);
  const plain = paragraph.replace(/^[-*+>] +|\*\*|`/g, "").replace(/\s+/g, " ");
  return /^.*?[.!?](?=\s|$)/.exec(plain)?.[0] ?? plain;
}

/** After so long it is said how long it has been: slow is not stuck. */
const TELL_TIME_AFTER_MS = 10_000;

/** What is going on, and since when if that is long ago. */
export function withTime(message: string, milliseconds: number): string {
  if (milliseconds < TELL_TIME_AFTER_MS) return message;
  const seconds = Math.floor(milliseconds / 1_000);
  const time = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return message === "" ? time : `${message} (${time})`;
}
