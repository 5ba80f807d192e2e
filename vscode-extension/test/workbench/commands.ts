import { writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { ADD, CALC, type Flow } from "./flow";

/** The two commands, and what becomes of their threads. */
export function commandFlows(flow: Flow): void {
  test("ask: the answer is written beside, and nothing is changed", async () => {
    await flow.service.script("It **adds** two numbers.\n\n![track](https://evil.example/x.png)\n");
    await flow.wb.open("ask.py");
    await flow.wb.select(1, 2);
    await flow.wb.command("Ask OpenHands");
    await flow.wb.answer("Your question about the selection", "What does this do?");
    const answer = await flow.wb.editorWith("adds");
    expect(answer).toContain("> What does this do?");
    expect(answer).not.toContain("![track]");
    await flow.wb.screenshot("ask");
    const content = (await flow.service.requests()).at(-1)?.messages[0]?.content;
    expect(content).toContain("Selected text:\ndef add(a, b):\n    return a + b");
    expect(await flow.wb.page.locator(".tab.dirty").count()).toBe(0);
  });

  test("agent without a selection: code goes in at the cursor", async () => {
    await flow.service.script("```python\nimport math\n```");
    await flow.wb.open("insert.py");
    await flow.wb.goTo(1);
    await flow.wb.command("Ask OpenHands Code Agent");
    await flow.wb.answer("What should the agent do?", "import math");
    await flow.wb.editorWith("import math");
    await flow.wb.save();
    expect(await flow.onDisk("insert.py")).toBe(`import math\n${CALC}`);
  });

  test("agent with a selection: only that is replaced, in one undo step, and explained beside", async () => {
    await flow.service.script(`Strings are accepted too now.\n${ADD}`);
    await flow.askAgent("replace.py", "Accept strings too");
    await flow.wb.editorWith("return int(a) + int(b)");
    await flow.wb.editorWith("Strings are accepted too now.");
    await flow.wb.screenshot("agent");
    await flow.wb.save();
    expect(await flow.onDisk("replace.py")).toBe(CALC.replace("return a + b", "return int(a) + int(b)"));
    const request = (await flow.service.requests()).at(-1);
    expect(request?.messages.at(-1)?.content).toContain(
      "Selected in replace.py, lines 1 to 2:\ndef add(a, b):",
    );
    await flow.wb.page.keyboard.press("Control+Z");
    await flow.wb.editorWith("return a + b");
    await flow.wb.save();
    expect(await flow.onDisk("replace.py")).toBe(CALC);
  });

  test("a run is cancelled without a word", async () => {
    await flow.service.script({ text: "too late", hold: "cancel" });
    await flow.askAgent("cancel.py", "Think long");
    await flow.wb.notification("OpenHands agent").waitFor();
    await flow.statusBar("1 agent working").waitFor();
    await flow.wb.screenshot("running");
    await flow.wb.press("OpenHands agent", "Cancel");
    await flow.wb.notification("OpenHands agent").waitFor({ state: "detached" });
    await flow.statusBar("OpenHands").waitFor();
    expect(await flow.wb.page.locator(".notifications-toasts .notification-list-item").count()).toBe(0);
  });

  test("typing goes on undisturbed while the answer arrives, and a changed document is not edited unasked", async () => {
    await flow.service.script(
      { calls: [["ask_human_for_input", { question: "Shall I go on?" }]], hold: "typing" },
      ADD,
    );
    await flow.askAgent("typing.py", "Accept strings too");
    await flow.wb.notification("OpenHands agent").waitFor();
    await flow.wb.page.keyboard.press("Control+End");
    await flow.wb.page.keyboard.type("# my own line\n");
    await flow.wb.open("notes.py");
    await flow.wb.page.keyboard.press("Control+End");
    const typed = "# a long note that is typed while the agent asks\n";
    for (const [index, letter] of typed.split("").entries()) {
      if (index === 5) await flow.service.release("typing");
      await flow.wb.page.keyboard.type(letter, { delay: 40 });
    }
    await flow.wb.notification("The agent asks: Shall I go on?").waitFor();
    await flow.wb.save();
    expect(await flow.onDisk("notes.py")).toBe(CALC + typed);
    await flow.wb.screenshot("undisturbed");
    await flow.wb.press("The agent asks: Shall I go on?", "Answer");
    await flow.wb.answer("Shall I go on?", "yes");
    await flow.wb.notification("typing.py changed since you asked").waitFor();
    await flow.wb.page.locator(".monaco-diff-editor").first().waitFor();
    await flow.wb.screenshot("review");
    await flow.wb.press("typing.py changed since you asked", "Apply");
    await flow.wb.page.locator(".monaco-diff-editor").first().waitFor({ state: "detached" });
    await flow.wb.focusGroup(1);
    await flow.wb.page.locator(".editor-group-container.active .tab", { hasText: "typing.py" }).click();
    await flow.wb.save();
    expect(await flow.onDisk("typing.py")).toBe(`${CALC.replace("a + b", "int(a) + int(b)")}# my own line\n`);
  });

  /** A run that changes both files; the service's own rules let it. */
  const changeBoth = async (): Promise<void> => {
    const paths = ["rewind.py", "theirs.py"];
    const edit = { old_text: "a + b", new_text: "b + a" };
    await flow.service.script(
      { calls: paths.map((filepath) => ["read_file", { filepath }]) },
      { calls: paths.map((filepath) => ["edit_file", { filepath, ...edit }]) },
      "Both sums are turned around.",
    );
    await flow.askAgent("rewind.py", "Turn both sums around");
    await flow.wb.notification("Both sums are turned around.").waitFor();
  };

  test("a thread is rewound with its files, and what was left alone is told with the reason", async () => {
    await changeBoth();
    const mine = CALC.replace("a + b", "a - b");
    await writeFile(path.join(flow.wb.folder, "theirs.py"), mine);
    await flow.showThreads();
    const moments = flow.wb.quickInput.filter({ hasText: 'Rewind "Turn both sums around"' });
    await flow.menu("Turn both sums around", "Rewind...", moments);
    await flow.wb.screenshot("rewind-moments");
    await flow.wb.quickInput.getByRole("option").last().click();
    await flow.wb.confirm("Conversation and Files");
    const notice = flow.wb.notification("1 file restored");
    await notice.waitFor();
    expect(await notice.textContent()).toMatch(/theirs\.py was left alone: \S+/);
    await flow.wb.screenshot("rewound");
    expect(await flow.onDisk("rewind.py")).toBe(CALC);
    expect(await flow.onDisk("theirs.py")).toBe(mine);
  });

  test("a thread is deleted from the tree, after a question", async () => {
    await flow.service.script("Nothing to do.");
    await flow.askAgent("ask.py", "Short-lived");
    await flow.showThreads();
    await flow.row("Short-lived").waitFor();
    await flow.menu("Short-lived", "Delete...", flow.wb.dialog);
    await flow.wb.confirm("Delete");
    await flow.row("Short-lived").waitFor({ state: "detached" });
    const { threads } = await flow.api<{ threads: { title: string }[] }>("threads");
    expect(threads.map(({ title }) => title)).not.toContain("Short-lived");
  });
}
