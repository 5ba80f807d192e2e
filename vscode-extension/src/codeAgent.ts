import { randomUUID } from "node:crypto";
import * as vscode from "vscode";
import * as config from "./config";
import { agentRequest } from "./core/requests";
import type { RememberedThread } from "./memory";
import type { Runs } from "./runs";
import { capture, type Captured, isVirtualWorkspace, projectFolder } from "./screen";

/** Ask OpenHands Code Agent: an instruction for the selection and the project. */
export class CodeAgent {
  constructor(private readonly runs: Runs) {}

  async run(): Promise<void> {
    if (!(await mayRun())) return;
    const captured = capture();
    const instruction = await askForInstruction(
      captured?.screen.selected ? "What should become of the selected code?" : "What should the agent do?",
    );
    if (!instruction) return;
    const project = await projectFolder(captured?.document);
    const request = agentRequest(instruction, randomUUID(), captured?.screen, project, config.manner());
    await this.runs.invoke(request, remembered(instruction, captured));
  }

  /** Another instruction for a thread that came to an end. */
  async goOn(threadId: string): Promise<void> {
    if (!(await mayRun())) return;
    const captured = capture();
    const instruction = await askForInstruction("What should the agent do next?");
    if (!instruction) return;
    const request = agentRequest(instruction, threadId, captured?.screen, undefined, config.manner());
    await this.runs.invoke(request, remembered(instruction, captured));
  }
}

/** Where the result of an instruction goes. */
export function remembered(
  instruction: string,
  captured: Captured | undefined,
): Omit<RememberedThread, "delivered"> {
  return { instruction, languageId: captured?.screen.languageId ?? null, place: captured?.place ?? null };
}

async function askForInstruction(prompt: string): Promise<string | undefined> {
  const instruction = await vscode.window.showInputBox({
    title: "Ask OpenHands Code Agent",
    prompt,
    placeHolder: "Add a docstring and handle empty input",
    ignoreFocusOut: true,
  });
  return instruction?.trim() ? instruction : undefined;
}

/** Why the agent cannot work in this workspace; undefined if it can. */
export function whyNot(): string | undefined {
  if (!vscode.workspace.isTrusted)
    return "The code agent changes files, so it works in trusted workspaces only. Ask OpenHands works here.";
  if (isVirtualWorkspace())
    return "The code agent needs files on a disk, and this workspace is virtual. Ask OpenHands works here.";
  return undefined;
}

/** What is not supported is said, with the way on. */
async function mayRun(): Promise<boolean> {
  const why = whyNot();
  if (why === undefined) return true;
  const choices = vscode.workspace.isTrusted ? ["Ask OpenHands"] : ["Manage Trust", "Ask OpenHands"];
  const choice = await vscode.window.showWarningMessage(why, ...choices);
  if (choice === "Manage Trust") await vscode.commands.executeCommand("workbench.trust.manage");
  else if (choice) await vscode.commands.executeCommand("openhands.askOpenHands");
  return false;
}
