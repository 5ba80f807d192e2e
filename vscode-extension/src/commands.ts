import * as vscode from "vscode";
import type { ApiKeys } from "./apiKeys";
import type { Approvals, Decision } from "./approvals";
import type { Ask } from "./ask";
import type { CodeAgent } from "./codeAgent";
import * as config from "./config";
import type { ServiceConnection } from "./connection";
import type { BoardThread } from "./core/board";
import type { CommandId } from "./core/commandIds";
import type { Delivery } from "./delivery";
import type { LastEditor } from "./lastEditor";
import type { Notices } from "./notices";
import type { Proposals } from "./proposals";
import type { Questions } from "./questions";
import type { Runs } from "./runs";
import type { Server } from "./server";
import * as service from "./serviceCommands";
import * as threads from "./threadCommands";
import type { Watch } from "./watch";

export interface Parts {
  readonly approvals: Approvals;
  readonly ask: Ask;
  readonly codeAgent: CodeAgent;
  readonly connection: ServiceConnection;
  readonly delivery: Delivery;
  readonly keys: ApiKeys;
  readonly lastEditor: LastEditor;
  readonly log: vscode.LogOutputChannel;
  readonly notices: Notices;
  readonly proposals: Proposals;
  readonly questions: Questions;
  readonly runs: Runs;
  readonly server: Server;
  readonly watch: Watch;
}

/** What the buttons of the walkthrough give: they stand in front of the editor that they are about. */
const WALKTHROUGH = "walkthrough";

type Handler = (...args: never[]) => unknown;

/** A handler for every command of the manifest. */
export function handlers(parts: Parts): Record<CommandId, Handler> {
  const { connection, delivery, keys, questions, runs, server, watch } = parts;
  const thenLook = async (work: Promise<unknown>): Promise<void> => {
    await work;
    await watch.look();
  };
  const started = async (from: unknown, run: () => Promise<void>): Promise<void> => {
    if (from === WALKTHROUGH) await parts.lastEditor.bringBack();
    await run();
  };
  const decide =
    (decision: Decision) =>
    (uri?: vscode.Uri): Promise<void> =>
      parts.approvals.decide(decision, uri);
  return {
    "openhands.askOpenHands": (from?: unknown) => started(from, () => parts.ask.run()),
    "openhands.invokeCodeAgent": (from?: unknown) => started(from, () => parts.codeAgent.run()),
    "openhands.answerQuestion": async (
      thread?: Pick<BoardThread, "thread_id">,
      callId?: string,
      answer?: string,
    ) => {
      await watch.look();
      await questions.answer(thread?.thread_id, callId, answer);
    },
    "openhands.checkConnection": () => service.checkConnection(parts),
    "openhands.startService": () => service.startService(parts),
    "openhands.installModel": () => service.installModel(parts),
    "openhands.stopService": async () => {
      const stopped = await server.stop();
      void vscode.window.showInformationMessage(
        stopped
          ? "The service was stopped."
          : "Nothing to stop: this editor started no service that still runs.",
      );
    },
    "openhands.setApiKey": () => service.setApiKey(keys, watch),
    "openhands.clearApiKey": async () => {
      await keys.clear(config.baseUrl());
      await watch.look();
    },
    "openhands.showLog": () => parts.log.show(true),
    "openhands.refreshThreads": () => watch.look(),
    "openhands.showResult": (thread: BoardThread) => delivery.showResult(thread.thread_id),
    "openhands.openDiff": (thread: BoardThread) => delivery.showChanges(thread.thread_id),
    "openhands.continueThread": (thread: BoardThread | string) =>
      parts.codeAgent.goOn(typeof thread === "string" ? thread : thread.thread_id),
    "openhands.rewindThread": (thread: BoardThread) => thenLook(threads.rewind(connection, thread)),
    "openhands.cancelThread": (thread: BoardThread) => thenLook(runs.cancel(thread.thread_id)),
    "openhands.deleteThread": (thread: BoardThread) => thenLook(threads.remove(connection, thread)),
    "openhands.applyProposal": (uri?: vscode.Uri) => parts.proposals.apply(uri),
    "openhands.discardProposal": (uri?: vscode.Uri) => parts.proposals.discard(uri),
    "openhands.allow": decide("allow"),
    "openhands.refuse": decide("refuse"),
    "openhands.refuseBecause": decide("refuseBecause"),
  };
}

/** Register them all; nothing that one throws goes unseen. */
export function registerCommands(parts: Parts): vscode.Disposable[] {
  return Object.entries(handlers(parts)).map(([id, handler]) =>
    vscode.commands.registerCommand(
      id,
      parts.notices.guard(handler as (...args: unknown[]) => Promise<unknown>),
    ),
  );
}
