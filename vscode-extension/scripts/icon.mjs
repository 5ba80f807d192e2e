// Draws media/icon.png from media/icon.svg with the browser that the tests use.
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const svg = await readFile("media/icon.svg", "utf8");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const page = await browser.newPage({ viewport: { width: 256, height: 256 } });
await page.setContent(`<style>body{margin:0}svg{display:block;width:256px}</style>${svg}`);
await page.screenshot({ path: "media/icon.png", omitBackground: true });
await browser.close();
