/** Checks of what came over the wire: a type and its test in one, so that the two cannot drift apart. */

import { Fault } from "./faults";

/** What a check takes, in the words of JSON Schema: the service's own description can be held against it. */
export interface Shape {
  readonly type: "string" | "number" | "boolean" | "array" | "object";
  readonly enum?: readonly string[];
  readonly items?: Shape;
  readonly properties?: Readonly<Record<string, Shape>>;
  /** Null, or nothing at all, is fine too. */
  readonly nullable?: true;
}

/** Gives the value back as what it is, or throws a Fault that names the place. */
export interface Check<T> {
  (value: unknown, place: string): T;
  readonly shape: Shape;
}

/** The type that a check stands for. */
export type Checked<C> = C extends Check<infer T> ? T : never;

type Fields = Record<string, Check<unknown>>;
type Typed<F extends Fields> = { [K in keyof F]: Checked<F[K]> };

/** A check of an object that tells which fields it looks at. */
export type ObjectCheck<F extends Fields> = Check<Typed<F>> & { readonly fields: F };

export const text = checked<string>({ type: "string" }, (value, place) =>
  typeof value === "string" ? value : unfit(place, "text"),
);

export const number = checked<number>({ type: "number" }, (value, place) =>
  typeof value === "number" ? value : unfit(place, "a number"),
);

export const flag = checked<boolean>({ type: "boolean" }, (value, place) =>
  typeof value === "boolean" ? value : unfit(place, "true or false"),
);

/** One of these words. */
export function oneOf<const W extends readonly string[]>(...words: W): Check<W[number]> {
  return checked(
    { type: "string", enum: words },
    (value, place) => words.find((word) => word === value) ?? unfit(place, words.join(" or ")),
  );
}

/** Null and absent are both null. */
export function nullable<T>(check: Check<T>): Check<T | null> {
  return checked({ ...check.shape, nullable: true }, (value, place) =>
    value === null || value === undefined ? null : check(value, place),
  );
}

/** Absent is the empty list: older services have fewer fields. */
export function list<T>(check: Check<T>): Check<T[]> {
  return checked({ type: "array", items: check.shape }, (value, place) => {
    if (value === undefined) return [];
    if (!Array.isArray(value)) return unfit(place, "a list");
    return value.map((each, index) => check(each, `${place}[${index}]`));
  });
}

/** An object with at least these fields; others are dropped. */
export function object<F extends Fields>(fields: F): ObjectCheck<F> {
  const properties = Object.fromEntries(Object.entries(fields).map(([name, { shape }]) => [name, shape]));
  const check = checked({ type: "object", properties }, (value, place): Typed<F> => {
    if (typeof value !== "object" || value === null) return unfit(place, "an object");
    const given = value as Record<string, unknown>;
    const entries = Object.entries(fields).map(([name, inner]) => [
      name,
      inner(given[name], `${place}.${name}`),
    ]);
    return Object.fromEntries(entries) as Typed<F>;
  });
  return Object.assign(check, { fields });
}

/** JSON text as what the check stands for. */
export function parse<T>(json: string, check: Check<T>, place: string): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new Fault("malformed", `${place} is not JSON`);
  }
  return check(value, place);
}

function checked<T>(shape: Shape, check: (value: unknown, place: string) => T): Check<T> {
  return Object.assign((value: unknown, place: string) => check(value, place), { shape });
}

function unfit(place: string, wanted: string): never {
  throw new Fault("malformed", `${place} is not ${wanted}`);
}
