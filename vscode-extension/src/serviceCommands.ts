import * as vscode from "vscode";
import type { ApiKeys } from "./apiKeys";
import type { Parts } from "./commands";
import * as config from "./config";
import { REMEDY_TITLES, sentence, unlinked } from "./core/wording";
import { inProgress } from "./progress";
import type { Watch } from "./watch";

const INSTALL = "Install Embedded Model";

/** Say what is there, and what can be done where something is missing. */
export async function checkConnection(parts: Parts): Promise<void> {
  const { connection } = parts;
  try {
    const { found, hasModel, problems } = await connection.check();
    connection.observe();
    void vscode.commands.executeCommand("setContext", "openhands.hasModel", hasModel);
    if (!hasModel && parts.server.canStart()) void offerModel(parts, found);
    else if (problems.length === 0) void vscode.window.showInformationMessage(found);
    else void tellProblems([found, ...problems.map(sentence)].join(" "));
  } catch (error) {
    connection.observe(error);
    throw error;
  }
}

/** Have the small model fetched that runs on this machine, after a yes. */
export async function installModel(parts: Parts): Promise<void> {
  const detail = "1.1 GB, once. It needs 3 GB of memory while it works, and is good for small tasks only.";
  const options = { modal: true, detail };
  if (!(await vscode.window.showInformationMessage("Download the embedded model?", options, "Download")))
    return;
  const leave = new AbortController();
  const cancel = (): void => leave.abort();
  await inProgress("Installing the embedded model", cancel, (show) =>
    parts.server.installModel(show, leave.signal),
  );
  await checkConnection(parts);
}

/** Returns whether the service runs. */
export async function startService(parts: Parts): Promise<boolean> {
  const { server, watch } = parts;
  const leave = new AbortController();
  const cancel = (): void => leave.abort();
  await inProgress("Starting the service", cancel, () => server.start(leave.signal));
  await watch.look();
  await checkConnection(parts);
  return true;
}

/** Returns whether a key was given. */
export async function setApiKey(keys: ApiKeys, watch: Watch): Promise<boolean> {
  const baseUrl = config.baseUrl();
  const key = await vscode.window.showInputBox({
    title: "Set API Key",
    prompt: `The key for ${new URL(baseUrl).origin}. It is kept in the editor's secret storage and sent nowhere else.`,
    password: true,
    ignoreFocusOut: true,
  });
  if (!key?.trim()) return false;
  await keys.set(baseUrl, key.trim());
  await watch.look();
  return true;
}

async function offerModel(parts: Parts, found: string): Promise<void> {
  const ways = `${found} Install a small one that runs on this machine, start a model server such as Ollama, or set a provider's key with "agent-service providers configure".`;
  if (await vscode.window.showWarningMessage(ways, INSTALL)) await parts.notices.guard(installModel)(parts);
}

/** A notification without a button shows one line, and goes away. */
async function tellProblems(message: string): Promise<void> {
  if (await vscode.window.showWarningMessage(unlinked(message), REMEDY_TITLES.log))
    await vscode.commands.executeCommand("openhands.showLog");
}
