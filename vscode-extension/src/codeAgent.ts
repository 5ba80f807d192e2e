import { randomUUID } from "node:crypto";
import * as vscode from "vscode";
import * as config from "./config";
import { agentRequest } from "./core/requests";
import type { Runs } from "./runs";
import { capture, isVirtualWorkspace, projectFolder } from "./screen";

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
    const request = agentRequest(instruction, randomUUID(), captured?.screen, project, config.modelQuality());
    const place = captured?.place ?? null;
    await this.runs.invoke(request, { instruction, languageId: captured?.screen.languageId ?? null, place });
  }

  /** Another instruction for a thread that came to an end. */
  async goOn(threadId: string): Promise<void> {
    if (!(await mayRun())) return;
    const captured = capture();
    const instruction = await askForInstruction("What should the agent do next?");
    if (!instruction) return;
    const request = agentRequest(instruction, threadId, captured?.screen, undefined, config.modelQuality());
    const place = captured?.place ?? null;
    await this.runs.invoke(request, { instruction, languageId: captured?.screen.languageId ?? null, place });
  }
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

/** What is not supported is said, with the way on. */
export async function mayRun(): Promise<boolean> {
  if (!vscode.workspace.isTrusted) {
    const message =
      "The code agent changes files, so it works in trusted workspaces only. Ask OpenHands works here.";
    const choice = await vscode.window.showWarningMessage(message, "Manage Trust", "Ask OpenHands");
    if (choice === "Manage Trust") await vscode.commands.executeCommand("workbench.trust.manage");
    else if (choice) await vscode.commands.executeCommand("openhands.askOpenHands");
    return false;
  }
  if (isVirtualWorkspace()) {
    const message =
      "The code agent needs files on a disk, and this workspace is virtual. Ask OpenHands works here.";
    const choice = await vscode.window.showWarningMessage(message, "Ask OpenHands");
    if (choice) await vscode.commands.executeCommand("openhands.askOpenHands");
    return false;
  }
  return true;
}
