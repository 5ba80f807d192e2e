import * as vscode from "vscode";
import { parseAddress } from "./core/address";
import { MODEL_QUALITIES, type ModelQuality } from "./core/api";
import type { Manner } from "./core/requests";

export const SECTION = "openhands";

const read = (name: string): string => vscode.workspace.getConfiguration(SECTION).get<string>(name, "");

/** Throws a Fault of kind `settings`. */
export const baseUrl = (): string => parseAddress(read("api.baseUrl"));

/** Undefined: as the service thinks right. */
export function modelQuality(): ModelQuality | undefined {
  const wanted = read("modelQuality");
  return MODEL_QUALITIES.find((quality) => quality === wanted);
}

/** How instructions are to be carried out. */
export const manner = (): Manner => ({ quality: modelQuality(), asksFirst: asksFirst() });

/** Whether generated code is shown before it goes in. */
export const reviewsFirst = (): boolean => read("apply") === "review";

/** Whether the agent asks before it changes a file, whatever the service's own rules are. */
export const asksFirst = (): boolean => read("approvals") !== "service";

export const serviceCommand = (): string => read("service.command").trim();

export const openSettings = (): Thenable<unknown> =>
  vscode.commands.executeCommand("workbench.action.openSettings", `${SECTION}.`);
