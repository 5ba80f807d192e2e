import { expect, test } from "vitest";
import type { Step } from "../service/stack";
import { ADD, asks, CALC, type Flow } from "./flow";

/** The editor's own chat. */
export function chatFlows(flow: Flow): void {
  test("in the editor's own chat, the service's models answer plain questions too", async () => {
    const before = (await flow.service.requests()).length;
    // The editor asks a model for a title as well.
    await flow.service.script(...Array<Step>(9).fill("I am the pool."));
    await flow.wb.chat("Who are you?");
    const wasAsked = async () =>
      (await flow.service.requests()).slice(before).some((request) => request.tools !== undefined);
    // The editor sets its chat up at the first use, and sometimes answers by that alone, without asking a model.
    const [answer, setUp] = [flow.wb.chatAnswer("I am the pool."), flow.wb.chatAnswer("Please try again.")];
    await answer.or(setUp).first().waitFor();
    if (await setUp.isVisible()) {
      expect(await wasAsked()).toBe(false);
      await flow.wb.chat("Who are you?");
    }
    await answer.waitFor();
    await flow.wb.screenshot("model");
    expect(await wasAsked()).toBe(true);
  });

  test("in the editor's own chat, @openhands answers with the service's models, and knows what was said", async () => {
    await flow.service.script("It **adds** two numbers.", "To get a sum.");
    await flow.wb.open("chat.py");
    await flow.wb.select(1, 2);
    await flow.wb.chat("@openhands /ask What does this do?");
    await flow.wb.chatAnswer("adds two numbers").waitFor();
    await flow.wb.chat("What for?"); // the participant stays addressed
    await flow.wb.chatAnswer("To get a sum.").waitFor();
    const content = (await flow.service.requests()).at(-1)?.messages[0]?.content;
    expect(content).toContain("You answered: It **adds** two numbers.");
  });

  test("/agent asks in the chat, with buttons, and only there", async () => {
    await flow.service.script(asks("Which type should it return?", ["int", "float"]), ADD);
    await flow.wb.open("agent.py");
    await flow.wb.select(1, 2);
    await flow.wb.chat("/agent Accept strings too");
    await flow.wb.chatAnswer("Which type should it return?").waitFor();
    await flow.statusBar("1 question").waitFor();
    await flow.wb.screenshot("chat");
    expect(await flow.wb.notification("The agent asks").count()).toBe(0);
    await flow.wb.chatButton("int").click();
    await flow.wb.editorWith("return int(a) + int(b)");
    await flow.wb.save();
    expect(await flow.onDisk("agent.py")).toBe(CALC.replace("a + b", "int(a) + int(b)"));
  });

  test("what is typed in the chat after a question is its answer, and the thread goes on there", async () => {
    await flow.service.script(asks("Which base?"), "Done.\n" + ADD, "Nothing more to do.");
    await flow.wb.open("typed.py");
    await flow.wb.select(1, 2);
    await flow.wb.chat("/agent Accept other bases");
    await flow.wb.chatAnswer("Which base?").waitFor();
    await flow.wb.chat("base sixteen");
    await flow.wb.chatAnswer("int(a) + int(b)").last().waitFor();
    await flow.wb.editorWith("return int(a) + int(b)");
    expect(JSON.stringify((await flow.service.requests()).at(-1)?.messages)).toContain("base sixteen");
    await flow.wb.chat("/agent And now?");
    await flow.wb.chatAnswer("Nothing more to do.").waitFor();
    expect(JSON.stringify((await flow.service.requests()).at(-1)?.messages)).toContain("Accept other bases");
  });

  test("/fix shows an approval with its diff in the chat", async () => {
    const content = CALC.replace("a + b", "b + a");
    await flow.service.script({ calls: [["write_file", { filepath: "fix.py", content }]] }, "It is fixed.");
    await flow.wb.open("fix.py");
    await flow.wb.select(1, 2);
    await flow.wb.chat("/fix");
    await flow.wb.chatAnswer("May the agent change fix.py?").waitFor();
    await flow.wb.screenshot("chat-approval");
    expect(await flow.onDisk("fix.py")).toBe(CALC);
    await flow.wb.chatButton("Allow").last().click();
    await flow.wb.notification("It is fixed.").waitFor();
    expect(await flow.onDisk("fix.py")).toBe(content);
  });
}
