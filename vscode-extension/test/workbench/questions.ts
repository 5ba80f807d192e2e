import { expect, test } from "vitest";
import { ADD, asks, type Flow, type Thread } from "./flow";

/** What the agent asks, and how it is not lost. */
export function questionFlows(flow: Flow): void {
  test("a question with options is a pick list, and any other answer is taken too", async () => {
    await flow.service.script(
      asks("Which type should it return?", ["int", "float"]),
      asks("Really?", ["yes", "no"]),
      ADD,
    );
    await flow.askAgent("options.py", "Accept strings too");
    await flow.wb.quickInput.filter({ hasText: "Which type should it return?" }).waitFor();
    await flow.wb.screenshot("question");
    await flow.wb.pick("Which type should it return?", "int");
    await flow.wb.pick("Really?", "Other...");
    await flow.wb.answer("Really?", "as sure as can be");
    await flow.wb.editorWith("return int(a) + int(b)");
    const sent = JSON.stringify((await flow.service.requests()).at(-1)?.messages);
    expect(sent).toContain("as sure as can be");
  });

  test("a closed question stays, and is answered from the tree", async () => {
    await flow.service.script(asks("Round or cut?"), ADD);
    await flow.askAgent("tree.py", "Return an integer");
    await flow.wb.quickInput
      .filter({ hasText: "Round or cut?" })
      .locator("input")
      .first()
      .fill("round, I thi");
    await flow.wb.page.keyboard.press("Escape");
    await flow.statusBar("1 question").waitFor();
    await flow.showThreads();
    await flow.row("Round or cut?").waitFor();
    await flow.wb.screenshot("tree");
    await flow.row("Round or cut?").click();
    const box = flow.wb.quickInput.filter({ hasText: "Round or cut?" });
    await box.waitFor();
    expect(await box.locator("input").first().inputValue()).toBe("round, I thi");
    await flow.wb.answer("Round or cut?", "round");
    await flow.wb.editorWith("return int(a) + int(b)");
    await flow.statusBar("1 question").waitFor({ state: "detached" });
    await flow.row("Done").waitFor();
  });

  test("a question answered elsewhere disappears here", async () => {
    await flow.service.script(asks("Tabs or blanks?"), "Done.");
    await flow.askAgent("tree.py", "Indent it");
    await flow.wb.quickInput.filter({ hasText: "Tabs or blanks?" }).waitFor();
    const { threads } = await flow.api<{ threads: Thread[] }>("threads?limit=1");
    const thread = await flow.api<Thread>(`threads/${threads[0]?.thread_id ?? ""}`);
    await flow.api("resume", {
      thread_id: thread.thread_id,
      tool_call_id: thread.human_input_request?.tool_call_id,
      human_response: "blanks",
    });
    await flow.wb.quickInput.filter({ hasText: "Tabs or blanks?" }).waitFor({ state: "hidden" });
    await flow.wb.notification("The agent finished").waitFor();
  });

  test("a question outlives the window", async () => {
    await flow.service.script(asks("Which name?"), ADD);
    await flow.askAgent("reload.py", "Rename it");
    await flow.wb.quickInput.filter({ hasText: "Which name?" }).waitFor();
    await flow.wb.reload();
    await flow.statusBar("1 question").waitFor();
    await flow.wb.notification("The agent asks: Which name?").waitFor();
    await flow.wb.screenshot("after-reload");
    await flow.wb.press("The agent asks: Which name?", "Answer");
    await flow.wb.answer("Which name?", "plus");
    await flow.wb.editorWith("return int(a) + int(b)");
  });

  test("a question outlives the service", async () => {
    await flow.service.script(asks("Python 2 or 3?"), ADD);
    await flow.askAgent("crash.py", "Modernise it");
    await flow.wb.quickInput.filter({ hasText: "Python 2 or 3?" }).waitFor();
    await flow.service.kill();
    await flow.wb.answer("Python 2 or 3?", "3");
    await flow.wb.notification("No service answers").waitFor();
    await flow.wb.screenshot("service-killed");
    await flow.service.restart();
    await flow.wb.press("No service answers", "Retry");
    await flow.wb.editorWith("return int(a) + int(b)");
    const sent = JSON.stringify((await flow.service.requests()).at(-1)?.messages);
    expect(sent).toContain('"3"');
  });
}
