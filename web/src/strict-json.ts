/** Value of a JSON text. */
export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
// Control characters have to be escaped.
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const WORDS: [string, Json][] = [
  ["true", true],
  ["false", false],
  ["null", null],
];
const ESCAPES: Record<string, string> = {
  '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t",
  "\b": "\\b", "\f": "\\f",
};
const MAX_DEPTH = 200;

/**
 * JSON object, and the text of each of its values in canonical form.
 *
 * The canonical form has sorted keys, no spaces and ASCII escapes, as Python's
 * `json.dumps(value, sort_keys=True, separators=(",", ":"))` writes. Numbers
 * keep the spelling of the file: JavaScript would write `1` for `1.0`, so the
 * manifest's hash cannot be computed from parsed values.
 */
export class StrictJson {
  readonly value: JsonObject;
  private readonly entries: Map<string, string>;

  /**
   * @param text JSON text of an object.
   * @throws SyntaxError no JSON; also repeated keys, numbers that are not
   *     finite, and whole numbers beyond 2^53, as in Python's reader.
   */
  constructor(text: string) {
    const parser = new Parser(text);
    const { value, entries } = parser.document();
    this.value = value;
    this.entries = entries;
  }

  /** Canonical text of the object without one of its keys. */
  canonicalWithout(key: string): string {
    return canonical([...this.entries].filter(([name]) => name !== key));
  }
}

/** Canonical text of a value that holds no numbers. */
export function canonicalText(value: Json): string {
  if (typeof value === "string") return canonicalString(value);
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(",")}]`;
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") throw new TypeError("a number");
  return canonical(
    Object.entries(value).map(([key, one]) => [key, canonicalText(one)]),
  );
}

function canonical(entries: [string, string][]): string {
  const sorted = [...entries].sort(([a], [b]) => compareCodePoints(a, b));
  const parts = sorted.map(([key, text]) => `${canonicalString(key)}:${text}`);
  return `{${parts.join(",")}}`;
}

function canonicalString(text: string): string {
  const escaped = text.replace(
    /["\\]|[^ -~]/g, // single UTF-16 units, as Python escapes
    (unit) =>
      ESCAPES[unit] ??
      `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `"${escaped}"`;
}

/** Order of Python's strings; JavaScript's own is that of UTF-16 units. */
function compareCodePoints(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const gap = left[i]!.codePointAt(0)! - right[i]!.codePointAt(0)!;
    if (gap) return gap;
  }
  return left.length - right.length;
}

interface Parsed {
  value: Json;
  text: string;
}

class Parser {
  private position = 0;

  constructor(private readonly source: string) {}

  document(): { value: JsonObject; entries: Map<string, string> } {
    this.match(SPACE);
    if (this.source[this.position] !== "{") this.fail("no object");
    const result = this.object(0);
    this.match(SPACE);
    if (this.position < this.source.length) this.fail("text after the object");
    return result;
  }

  private parsed(depth: number): Parsed {
    if (depth > MAX_DEPTH) this.fail("nested too deeply");
    this.match(SPACE);
    const next = this.source[this.position];
    if (next === "{") {
      const { value, entries } = this.object(depth);
      return { value, text: canonical([...entries]) };
    }
    if (next === "[") return this.array(depth);
    if (next === '"') {
      const value = this.string();
      return { value, text: canonicalString(value) };
    }
    for (const [word, value] of WORDS) {
      if (this.source.startsWith(word, this.position)) {
        this.position += word.length;
        return { value, text: word };
      }
    }
    return this.number();
  }

  private object(depth: number) {
    const value: JsonObject = Object.create(null);
    const entries = new Map<string, string>();
    this.position++;
    for (let first = true; !this.closed("}"); first = false) {
      if (!first) this.expect(",");
      this.match(SPACE);
      const key = this.string();
      if (entries.has(key)) this.fail(`the key '${key}' stands there twice`);
      this.match(SPACE);
      this.expect(":");
      const one = this.parsed(depth + 1);
      value[key] = one.value;
      entries.set(key, one.text);
    }
    return { value, entries };
  }

  private array(depth: number): Parsed {
    const values: Json[] = [];
    const texts: string[] = [];
    this.position++;
    for (let first = true; !this.closed("]"); first = false) {
      if (!first) this.expect(",");
      const one = this.parsed(depth + 1);
      values.push(one.value);
      texts.push(one.text);
    }
    return { value: values, text: `[${texts.join(",")}]` };
  }

  private string(): string {
    const token = this.match(STRING);
    if (token === null) return this.fail("no string");
    return JSON.parse(token) as string;
  }

  private number(): Parsed {
    const text = this.match(NUMBER);
    if (!text) return this.fail("no value");
    const value = Number(text);
    const whole = /^-?\d+$/.test(text);
    if (!Number.isFinite(value) || (whole && Math.abs(value) > 2 ** 53)) {
      this.fail(`${text.slice(0, 30)} is not a number that can be read`);
    }
    return { value, text };
  }

  private closed(bracket: string): boolean {
    this.match(SPACE);
    if (this.source[this.position] !== bracket) return false;
    this.position++;
    return true;
  }

  private expect(character: string): void {
    if (this.source[this.position] !== character) {
      this.fail(`no '${character}'`);
    }
    this.position++;
  }

  private match(pattern: RegExp): string | null {
    pattern.lastIndex = this.position;
    const found = pattern.exec(this.source);
    if (found === null) return null;
    this.position = pattern.lastIndex;
    return found[0];
  }

  private fail(what: string): never {
    throw new SyntaxError(`${what} at character ${this.position}`);
  }
}
