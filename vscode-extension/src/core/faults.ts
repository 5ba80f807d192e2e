/** What can go wrong between the editor and the service, grouped by what a person can do about it. */

export type FaultKind =
  /** Nothing answers at the address. */
  | "unreachable"
  /** The service took the request and then said nothing for too long. */
  | "timeout"
  /** The service answered with an error; `status` and `code` say which. */
  | "http"
  /** The answer is not what the contract says. */
  | "malformed"
  /** The settings make no request possible. */
  | "settings"
  /** The folder must be trusted first. */
  | "untrusted"
  /** The service's command is not on this machine. */
  | "missing"
  /** The service's command failed on this machine. */
  | "program"
  /** A stream ended before its end. */
  | "cut"
  /** The person did not want it any more. */
  | "cancelled";

export interface FaultDetails {
  status?: number;
  /** The service's own word for it, such as `thread_busy`. */
  code?: string;
  retryAfterSeconds?: number;
}

export class Fault extends Error {
  readonly status: number | undefined;
  readonly code: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    readonly kind: FaultKind,
    message: string,
    details: FaultDetails = {},
  ) {
    super(message);
    this.name = "Fault";
    this.status = details.status;
    this.code = details.code;
    this.retryAfterSeconds = details.retryAfterSeconds;
  }

  /** Whether the same request may find the service back in a moment. */
  get isConnection(): boolean {
    return this.kind === "unreachable" || this.kind === "timeout" || this.kind === "cut";
  }
}

export const cancelled = (): Fault => new Fault("cancelled", "cancelled");

/** Whether it is a Fault with this code of the service. */
export function hasCode(error: unknown, ...codes: string[]): error is Fault {
  return error instanceof Fault && error.code !== undefined && codes.includes(error.code);
}

/** Whether the service keeps a caller without the right key out. */
export function isUnauthorized(error: unknown): boolean {
  return error instanceof Fault && error.status === 401;
}
