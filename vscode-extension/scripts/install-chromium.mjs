// A browser to test in: the one of this machine, else Debian's, unpacked into the cache. That needs no rights
// and changes nothing outside of the cache: apt works on folders of its own, and knows what is installed.
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

const PACKAGES = ["chromium", "fonts-dejavu-core"];
const INSTALLED = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Installs it below `cache` if need be. @returns the command. */
export function installChromium(cache) {
  const given = process.env.CHROMIUM;
  if (given) return given;
  const wrapper = path.join(cache, "chromium", "chromium");
  const found = [...INSTALLED, wrapper].find((file) => existsSync(file));
  if (found) return found;
  if (!existsSync("/usr/bin/apt-get")) {
    throw new Error("No Chromium was found. Install one, or set the variable CHROMIUM to its command.");
  }
  const folder = path.dirname(wrapper);
  console.log(`Unpacking Chromium into ${folder} (once)`);
  const root = path.join(folder, "root");
  rmSync(folder, { recursive: true, force: true });
  for (const archive of download(path.join(folder, "apt"))) execFileSync("dpkg-deb", ["-x", archive, root]);
  rmSync(path.join(folder, "apt"), { recursive: true });
  const binary = path.join(root, "usr/lib/chromium/chromium");
  if (!existsSync(binary)) {
    throw new Error("This system's Chromium package holds no Chromium; set the variable CHROMIUM to one.");
  }
  writeFileSync(path.join(folder, "fonts.conf"), fonts(folder));
  writeFileSync(wrapper, script(folder, binary));
  chmodSync(wrapper, 0o755);
  return wrapper;
}

/** The archives of the packages and of all that they need and this machine lacks. */
function download(folder) {
  const archives = path.join(folder, "archives");
  for (const each of [archives, path.join(folder, "lists")])
    mkdirSync(path.join(each, "partial"), { recursive: true });
  const settings = {
    "Dir::State::Lists": path.join(folder, "lists"),
    "Dir::Cache": folder,
    "Dir::Cache::Archives": archives,
    "Debug::NoLocking": "true",
    "APT::Sandbox::User": process.getuid() === 0 ? "root" : "",
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const apt = (...args) =>
    execFileSync("apt-get", [...options, "-qq", ...args], { stdio: ["ignore", "ignore", "inherit"] });
  apt("update");
  apt("install", "--download-only", "--yes", "--no-install-recommends", ...PACKAGES);
  return readdirSync(archives)
    .filter((name) => name.endsWith(".deb"))
    .map((name) => path.join(archives, name));
}

function script(folder, binary) {
  const libraries = [...foldersWithLibraries(path.join(folder, "root"))].join(":");
  return `#!/bin/sh
export LD_LIBRARY_PATH='${libraries}' FONTCONFIG_FILE='${path.join(folder, "fonts.conf")}'
exec '${binary}' "$@"
`;
}

function foldersWithLibraries(root) {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true });
  return new Set(entries.filter(({ name }) => /\.so(\.\d|$)/.test(name)).map((entry) => entry.parentPath));
}

function fonts(folder) {
  return `<?xml version="1.0"?>
<fontconfig>
  <dir>${path.join(folder, "root/usr/share/fonts")}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>${path.join(folder, "font-cache")}</cachedir>
</fontconfig>
`;
}
