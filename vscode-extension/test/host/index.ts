import * as vscode from "vscode";
import { tests as approvals } from "./approvals";
import { tests as commands } from "./commands";
import { tidy } from "./editor";
import { tests as faults } from "./faults";
import { tests as localService } from "./localService";
import { tests as models } from "./models";
import { tests as workspaces } from "./workspaces";

/** Begins every line of results among what the extension host prints. */
const MARK = "host test result ";

/** Called by the editor, in its extension host. A line of JSON a test goes to the console. */
export async function run(): Promise<void> {
  await vscode.extensions.getExtension("agent-service.openhands-ai-assistant")?.activate();
  const unseen: unknown[] = [];
  process.on("unhandledRejection", (reason) => unseen.push(reason));
  // The last one stops the service that the others share.
  const all = { ...approvals, ...commands, ...faults, ...models, ...workspaces, ...localService };
  for (const [name, test] of Object.entries(all)) {
    const begun = Date.now();
    let error: string | undefined;
    try {
      await tidy();
      await test();
      if (unseen.length > 0) throw new Error(`nobody saw: ${unseen.splice(0).map(String).join(", ")}`);
    } catch (thrown) {
      error = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    }
    console.log(MARK + JSON.stringify({ name, error, milliseconds: Date.now() - begun }));
  }
}
