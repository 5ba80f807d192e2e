import { expect, test } from "vitest";
import type { Step } from "../service/stack";
import { CALC, type Flow } from "./flow";

const TURNED = CALC.replace("a + b", "b + a");
const WANTED = "wanted by the agent";

const writes = (filepath: string, content: string): Step => ({
  calls: [["write_file", { filepath, content }]],
});

/** What the agent may not do before somebody has seen it. */
export function approvalFlows(flow: Flow): void {
  const wanted = () => flow.wb.page.locator(".tab", { hasText: WANTED });
  /** Wait until the change is in view. */
  const inView = async (): Promise<void> => {
    await wanted().waitFor();
    await flow.wb.page.locator(".monaco-diff-editor .line-insert").first().waitFor();
  };
  /** The lines of the diff that something else stands over. */
  const covered = (): Promise<string[]> =>
    flow.wb.page.locator(".monaco-diff-editor .view-line").evaluateAll((lines) =>
      lines
        .filter((line) => {
          const { left, top, height } = line.getBoundingClientRect();
          return !document.elementFromPoint(left + 1, top + height / 2)?.closest(".monaco-editor");
        })
        .map((line) => line.textContent),
    );

  test("an approval shows the whole diff, no key decides, and the change is made after a yes", async () => {
    const asked = "May the agent change approve.py?";
    await flow.service.script(writes("approve.py", TURNED), "The sum is turned around. So it commutes.");
    await flow.askAgent("approve.py", "Turn the sum around");
    await flow.wb.notification(asked).waitFor();
    await inView();
    await flow.wb.screenshot("approval");
    expect(await covered()).toEqual([]);
    await flow.wb.page.keyboard.press("ArrowRight"); // the keyboard is still in the file
    await flow.wb.page.keyboard.press("Enter");
    await flow.wb.page.keyboard.press("Control+Z");
    await flow.statusBar("1 question").waitFor();
    expect(await flow.onDisk("approve.py")).toBe(CALC);
    await flow.wb.press(asked, "Allow");
    await flow.wb.notification("The agent finished. The sum is turned around.").waitFor();
    await flow.wb.page.locator(".tab", { hasText: "changes by the agent" }).waitFor();
    await flow.wb.page.locator(".monaco-diff-editor .line-insert").first().waitFor();
    await flow.wb.screenshot("changes");
    expect(await flow.onDisk("approve.py")).toBe(TURNED);
    await flow.wb.press("The agent finished.", "Show Explanation");
    await flow.wb.editorWith("So it commutes.");
    await flow.wb.screenshot("explanation");
  });

  test("a closed approval stays, is refused with a reason, and the next one allowed over the diff", async () => {
    const asked = "May the agent change refuse.py?";
    await flow.service.script(
      writes("refuse.py", CALC.replace("a + b", "a - b")),
      writes("refuse.py", TURNED),
      "The sum is turned around.",
    );
    await flow.askAgent("refuse.py", "Turn the sum around");
    await flow.wb.notification(asked).waitFor();
    await inView();
    await flow.wb.clearNotifications();
    await flow.statusBar("1 question").click();
    await flow.wb.press(asked, "Refuse with a Reason...");
    await flow.wb.answer(asked, "It must stay a sum.");
    await flow.wb.editorWith("return b + a");
    expect(JSON.stringify((await flow.service.requests()).at(-1)?.messages)).toContain("It must stay a sum.");
    expect(await flow.onDisk("refuse.py")).toBe(CALC);
    await wanted().click();
    await flow.titleButton("Refuse").waitFor();
    await flow.wb.screenshot("approval-over-diff");
    await flow.titleButton("Allow").click();
    await flow.wb.notification("The sum is turned around.").waitFor();
    expect(await wanted().count()).toBe(0);
    expect(await flow.onDisk("refuse.py")).toBe(TURNED);
  });
}
