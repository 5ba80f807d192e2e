import type * as vscode from "vscode";
import { SECTION } from "./config";
import { type Remedy, REMEDY_TITLES } from "./core/wording";

const CONNECT_STEP = { category: "agent-service.openhands-ai-assistant#start", step: "connect" };

/** What the buttons do that help after a failure; to try again is what whoever shows them knows. */
export const REMEDIES: Readonly<Record<Exclude<Remedy, "retry">, vscode.Command>> = {
  settings: button("settings", "workbench.action.openSettings", `${SECTION}.`),
  key: button("key", "openhands.setApiKey"),
  start: button("start", "openhands.startService"),
  install: button("install", "workbench.action.openWalkthrough", CONNECT_STEP),
  trust: button("trust", "workbench.trust.manage"),
  log: button("log", "openhands.showLog"),
};

function button(remedy: Remedy, command: string, ...args: unknown[]): vscode.Command {
  return { title: REMEDY_TITLES[remedy], command, arguments: args };
}
