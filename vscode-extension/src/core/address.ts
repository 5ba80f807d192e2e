/** The service's address, as a person writes it. */

import { Fault } from "./faults";

/** Without blanks and without a slash at its end. Throws a Fault of kind `settings` for what is no address. */
export function parseAddress(written: string): string {
  const wrong = (why: string): Fault =>
    new Fault("settings", `The address of the service, ${JSON.stringify(written)}, ${why}`);
  let url: URL;
  try {
    url = new URL(written.trim());
  } catch {
    throw wrong("is not a URL such as http://localhost:8000.");
  }
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw wrong("must begin with http:// or https://.");
  if (url.username || url.password) throw wrong("must not hold a password; use Set API Key.");
  if (url.search || url.hash) throw wrong("must end with its path.");
  return url.origin + url.pathname.replace(/\/+$/, "");
}
