import * as vscode from "vscode";
import { Answers } from "./answers";
import { ApiKeys } from "./apiKeys";
import { Approvals } from "./approvals";
import { Arrivals } from "./arrivals";
import { Ask } from "./ask";
import { Attention } from "./attention";
import { CodeAgent } from "./codeAgent";
import { registerCommands } from "./commands";
import { SECTION } from "./config";
import { ServiceConnection } from "./connection";
import { Board } from "./core/board";
import { Delivery } from "./delivery";
import { DiffView } from "./diffView";
import { LastEditor } from "./lastEditor";
import { Memory } from "./memory";
import { registerModels } from "./modelProvider";
import { Notices } from "./notices";
import { Participant } from "./participant";
import { Proposals } from "./proposals";
import { Questions } from "./questions";
import { Runs } from "./runs";
import { Server } from "./server";
import { StatusBar } from "./statusBar";
import { ThreadsView } from "./threadsView";
import { VirtualDocuments } from "./virtualDocuments";
import { Watch } from "./watch";

/** Called by the editor. What fails here would go unseen, so it is shown. */
export function activate(context: vscode.ExtensionContext): void {
  try {
    start(context);
  } catch (error) {
    void vscode.window.showErrorMessage(`OpenHands AI Assistant could not start: ${String(error)}`);
    throw error;
  }
}

function start(context: vscode.ExtensionContext): void {
  const log = vscode.window.createOutputChannel("OpenHands", { log: true });
  const keys = new ApiKeys(context.secrets);
  const connection = new ServiceConnection(keys, log);
  const server = new Server(context, connection, log);
  const notices = new Notices(connection, server, log);
  const memory = new Memory(context.workspaceState);
  const attention = new Attention();
  const lastEditor = new LastEditor();
  const board = new Board();
  const watch = new Watch(connection, board, log);

  const documents = new VirtualDocuments();
  const answers = new Answers(documents);
  const diffs = new DiffView(documents);
  const proposals = new Proposals(documents);
  const delivery = new Delivery(connection, memory, answers, diffs, proposals, notices);
  const runs = new Runs(connection, memory, delivery, notices, attention);
  const approvals = new Approvals(runs, memory, diffs);
  const questions = new Questions(board, runs, memory, approvals, answers, notices, () => watch.look());
  const arrivals = new Arrivals(connection, board, runs, memory, delivery, notices);
  const statusBar = new StatusBar(board);
  const view = new ThreadsView(board, runs);

  const ask = new Ask(connection, answers, notices);
  const codeAgent = new CodeAgent(runs);
  const parts = {
    approvals,
    ask,
    codeAgent,
    connection,
    delivery,
    keys,
    lastEditor,
    log,
    notices,
    proposals,
    questions,
    runs,
    server,
    watch,
  };

  context.subscriptions.push(
    log,
    attention,
    lastEditor,
    watch,
    documents,
    proposals,
    runs,
    statusBar,
    view,
    runs.onAsked((asked) => questions.asked(asked)),
    runs.onAdvanced(() => view.update()),
    runs.onChanged(() => void watch.look()),
    watch.onLooked((changes) => {
      questions.changed(changes);
      statusBar.update();
      view.update();
      notices.inBackground(arrivals.announce());
    }),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration(`${SECTION}.api`)) void watch.lookElsewhere();
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(() => void watch.lookElsewhere()),
    ...registerCommands(parts),
    registerModels(connection),
    new Participant(connection, runs, notices).register(),
  );
  void watch.look();
  notices.inBackground(server.refresh());
}
