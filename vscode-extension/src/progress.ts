import * as vscode from "vscode";
import { sleep } from "./core/follow";
import { withTime } from "./core/wording";

/** What ends sooner is not worth a notification that comes and goes. */
const SHOW_AFTER_MS = 400;

/** The work's result; while it takes, a notification shows what it tells, with a button to cancel. */
export async function inProgress<T>(
  title: string,
  onCancel: () => void,
  work: (show: (message: string) => void) => Promise<T>,
): Promise<T> {
  const begun = Date.now();
  let message = "";
  let report: (() => void) | undefined;
  const result = work((text) => {
    message = text;
    report?.();
  });
  const settled = result.then(
    () => true,
    () => true,
  );
  if (await Promise.race([settled, sleep(SHOW_AFTER_MS).then(() => false)])) return result;
  const options = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
  await vscode.window.withProgress(options, async (progress, token) => {
    report = () => progress.report({ message: withTime(message, Date.now() - begun) });
    report();
    const clock = setInterval(report, 1_000);
    const subscription = token.onCancellationRequested(onCancel);
    await settled;
    clearInterval(clock);
    subscription.dispose();
  });
  return result;
}
