import type { Shape } from "../../src/core/shape";
import type { Schema } from "../service/stack";

export type Schemas = Readonly<Record<string, Schema>>;

/** Where what is read and what the service describes part ways; a line each. */
export function differences(read: Shape, described: Schema, schemas: Schemas, place: string): string[] {
  const { schema, nullable } = resolved(described, schemas);
  const found: string[] = [];
  if (nullable && !read.nullable) found.push(`${place} may be null`);
  const type = schema.type === "integer" ? "number" : (schema.type ?? "anything");
  if (type !== read.type) return [...found, `${place} is ${type}, not ${read.type}`];
  const words = schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);
  if (read.enum && !sameWords(read.enum, words))
    found.push(`${place} is one of ${String(words)}, not of ${String(read.enum)}`);
  if (read.items && schema.items && isDescribed(schema.items))
    found.push(...differences(read.items, schema.items, schemas, `${place}[]`));
  return [...found, ...fieldDifferences(read, schema, schemas, place)];
}

function fieldDifferences(read: Shape, schema: Schema, schemas: Schemas, place: string): string[] {
  if (!isDescribed(schema)) return [];
  return Object.entries(read.properties ?? {}).flatMap(([name, field]) => {
    const described = schema.properties?.[name];
    return described
      ? differences(field, described, schemas, `${place}.${name}`)
      : [`${place}.${name} is not there`];
  });
}

/** Where a body is not what the service takes; a line each. */
export function objections(body: unknown, described: Schema, schemas: Schemas, place: string): string[] {
  const { schema } = resolved(described, schemas);
  const type = Array.isArray(body) ? "array" : typeof body;
  const wanted = schema.type === "integer" ? "number" : schema.type;
  if (type !== wanted) return [`${place} is ${String(wanted)}, not ${type}`];
  if (schema.enum && !schema.enum.includes(body as string))
    return [`${place} is one of ${schema.enum.join(", ")}`];
  if (!schema.properties) return [];
  const given = body as Record<string, unknown>;
  const missing = (schema.required ?? []).filter((name) => !(name in given));
  return [
    ...missing.map((name) => `${place}.${name} is missing`),
    ...Object.entries(given).flatMap(([name, value]) => {
      const field = schema.properties?.[name];
      return field
        ? objections(value, field, schemas, `${place}.${name}`)
        : [`${place}.${name} is not known`];
    }),
  ];
}

/** The words of an enumeration, wherever it stands. */
export const wordsOf = (described: Schema, schemas: Schemas): readonly string[] =>
  resolved(described, schemas).schema.enum ?? [];

function resolved(described: Schema, schemas: Schemas): { schema: Schema; nullable: boolean } {
  const either = described.anyOf ?? [described];
  const real = either.filter(({ type }) => type !== "null");
  const [only = {}] = real;
  const schema = only.$ref === undefined ? only : (schemas[only.$ref.split("/").at(-1) ?? ""] ?? {});
  return { schema, nullable: real.length < either.length };
}

/** Events carry some objects that only the answers describe. */
const isDescribed = (schema: Schema): boolean => schema.type !== "object" || schema.properties !== undefined;

function sameWords(these: readonly string[], those: readonly string[] = []): boolean {
  return JSON.stringify([...these].sort()) === JSON.stringify([...those].sort());
}
