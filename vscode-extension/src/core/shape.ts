/** Checks of what came over the wire: a type and its test in one, so that the two cannot drift apart. */

import { Fault } from "./faults";

/** Gives the value back as what it is, or throws a Fault that names the place. */
export type Check<T> = (value: unknown, place: string) => T;

/** The type that a check stands for. */
export type Checked<C> = C extends Check<infer T> ? T : never;

type Fields = Record<string, Check<unknown>>;
type Typed<F extends Fields> = { [K in keyof F]: Checked<F[K]> };

/** A check of an object that tells which fields it looks at. */
export type ObjectCheck<F extends Fields> = Check<Typed<F>> & { readonly fields: F };

export const text: Check<string> = (value, place) =>
  typeof value === "string" ? value : unfit(place, "text");

export const number: Check<number> = (value, place) =>
  typeof value === "number" ? value : unfit(place, "a number");

export const flag: Check<boolean> = (value, place) =>
  typeof value === "boolean" ? value : unfit(place, "true or false");

/** One of these words. */
export function oneOf<const W extends readonly string[]>(...words: W): Check<W[number]> {
  return (value, place) => words.find((word) => word === value) ?? unfit(place, words.join(" or "));
}

/** Null and absent are both null. */
export function nullable<T>(check: Check<T>): Check<T | null> {
  return (value, place) => (value === null || value === undefined ? null : check(value, place));
}

/** Absent is the empty list: older services have fewer fields. */
export function list<T>(check: Check<T>): Check<T[]> {
  return (value, place) => {
    if (value === undefined) return [];
    if (!Array.isArray(value)) return unfit(place, "a list");
    return value.map((each, index) => check(each, `${place}[${index}]`));
  };
}

/** An object with at least these fields; others are dropped. */
export function object<F extends Fields>(fields: F): ObjectCheck<F> {
  const check = (value: unknown, place: string): Typed<F> => {
    if (typeof value !== "object" || value === null) return unfit(place, "an object");
    const given = value as Record<string, unknown>;
    const entries = Object.entries(fields).map(([name, inner]) => [
      name,
      inner(given[name], `${place}.${name}`),
    ]);
    return Object.fromEntries(entries) as Typed<F>;
  };
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

function unfit(place: string, wanted: string): never {
  throw new Fault("malformed", `${place} is not ${wanted}`);
}
