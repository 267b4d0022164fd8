import {
  CHINESE,
  MARKS,
  NEWER,
  PUNCTUATION,
  REGEX_MARKS,
  REMOVED,
  SPACES,
} from "./character-classes";

type Text = (text: string) => string;
type Split = (text: string) => string[];
type Words = (word: string) => number[];
type Config = any;

/** Token ids with the number of the text that each is of. */
export interface Tokens {
  ids: number[];
  types: number[];
}

/**
 * Reads a `tokenizer.json` of the kinds that `keras_cascade` writes: WordPiece
 * and whole words, with BERT's, KerasHub's and `TextVectorization`'s rules.
 *
 * The tokens are those of the library `tokenizers`, character by character; a
 * file with a step that is not known here is refused.
 */
export class Tokenizer {
  private readonly normalize: Text;
  private readonly split: Split;
  private readonly words: Words;
  private readonly added: { pattern: RegExp | null; ids: Map<string, number> };
  private readonly templates: { single: Config[]; pair: Config[] };
  private readonly vocabulary: Map<string, number>;

  /**
   * @param config parsed `tokenizer.json`.
   * @throws Error a step that is not known here; the message names it.
   */
  constructor(config: Config) {
    this.vocabulary = new Map(Object.entries(config.model?.vocab ?? {}));
    this.normalize = normalizer(config.normalizer);
    this.split = preTokenizer(config.pre_tokenizer);
    this.words = model(config.model, this.vocabulary);
    this.added = addedTokens(config.added_tokens ?? []);
    this.templates = templates(config.post_processor);
  }

  /** Number of tokens that are added to one text, or to two. */
  specialCount(texts: number): number {
    const parts = texts > 1 ? this.templates.pair : this.templates.single;
    return parts.reduce((sum, part) => sum + (part.ids?.length ?? 0), 0);
  }

  tokenId(token: string): number | undefined {
    return this.added.ids.get(token) ?? this.vocabulary.get(token);
  }

  /** Tokens of a text, without special ones around them. */
  encode(text: string): number[] {
    const { pattern, ids } = this.added;
    const parts = pattern === null ? [text] : text.split(pattern);
    return parts.flatMap((part) => {
      const id = ids.get(part);
      if (id !== undefined) return [id];
      if (!part) return [];
      return this.split(this.normalize(part)).flatMap(this.words);
    });
  }

  /** Puts special tokens around the tokens of one text, or of two. */
  assemble(first: number[], second?: number[]): Tokens {
    const parts =
      second === undefined ? this.templates.single : this.templates.pair;
    const ids: number[] = [];
    const types: number[] = [];
    for (const part of parts) {
      const own: number[] = part.ids ?? (part.text === "A" ? first : second);
      ids.push(...own);
      types.push(...own.map(() => part.type as number));
    }
    return { ids, types };
  }
}

function normalizer(config: Config): Text {
  switch (config?.type) {
    case undefined:
      return (text) => text;
    case "Sequence":
      return inTurn(config.normalizers.map(normalizer));
    case "BertNormalizer":
      return bertNormalizer(config);
    case "NFD":
    case "NFKC":
    case "NFC":
    case "NFKD":
      return unicodeForm(config.type);
    case "Lowercase":
      return lowerCase;
    case "StripAccents":
      return withoutMarks;
    case "Replace": {
      if (config.pattern.Regex === "\\p{Mn}") {
        return (text) =>
          mapped(text, (one, code) =>
            REGEX_MARKS.has(code) ? config.content : one,
          );
      }
      const pattern = patternOf(config.pattern);
      return (text) => text.replace(pattern, () => config.content);
    }
    default:
      throw unknown("normalizer", config.type);
  }
}

function bertNormalizer(config: Config): Text {
  const steps: Text[] = [];
  if (config.clean_text) steps.push(cleaned);
  if (config.handle_chinese_chars) {
    steps.push((text) =>
      mapped(text, (one, code) => (CHINESE.has(code) ? ` ${one} ` : one)),
    );
  }
  if (config.strip_accents ?? config.lowercase) {
    steps.push(unicodeForm("NFD"), withoutMarks);
  }
  if (config.lowercase) steps.push(lowerCase);
  return inTurn(steps);
}

function cleaned(text: string): string {
  return mapped(text, (one, code) => {
    if (REMOVED.has(code)) return "";
    return SPACES.has(code) ? " " : one;
  });
}

function withoutMarks(text: string): string {
  return mapped(text, (one, code) => (MARKS.has(code) ? "" : one));
}

/** Each character alone: as a text, a capital sigma at a word's end differs. */
function lowerCase(text: string): string {
  return mapped(text, (one) => one.toLowerCase());
}

/** Normalizes all but the characters that the library does not know. */
function unicodeForm(form: "NFC" | "NFD" | "NFKC" | "NFKD"): Text {
  return (text) => {
    if (/^[\0-\x7f]*$/.test(text)) return text;
    let result = "";
    let part = "";
    for (const one of text) {
      if (!NEWER.has(one.codePointAt(0)!)) {
        part += one;
        continue;
      }
      result += part.normalize(form) + one;
      part = "";
    }
    return result + part.normalize(form);
  };
}

function preTokenizer(config: Config): Split {
  switch (config?.type) {
    case undefined:
      return (text) => (text ? [text] : []);
    case "Sequence": {
      const steps: Split[] = config.pretokenizers.map(preTokenizer);
      return (text) =>
        steps.reduce((parts, step) => parts.flatMap(step), [text]);
    }
    case "BertPreTokenizer":
      return bertWords;
    case "Split": {
      const { behavior, invert, pattern } = config;
      if (invert || !["Removed", "Isolated"].includes(behavior)) {
        throw unknown("split", invert ? "inverted" : behavior);
      }
      const source = patternOf(pattern).source;
      const isolated = behavior === "Isolated";
      const cut = new RegExp(isolated ? `(${source})` : source, "u");
      return (text) => text.split(cut).filter(Boolean);
    }
    default:
      throw unknown("pre-tokenizer", config.type);
  }
}

function bertWords(text: string): string[] {
  const words: string[] = [];
  let word = "";
  for (const one of text) {
    const code = one.codePointAt(0)!;
    const isMark = PUNCTUATION.has(code);
    if (!isMark && !SPACES.has(code)) {
      word += one;
      continue;
    }
    if (word) words.push(word);
    if (isMark) words.push(one);
    word = "";
  }
  if (word) words.push(word);
  return words;
}

function model(config: Config, vocabulary: Map<string, number>): Words {
  const unknownId = vocabulary.get(config?.unk_token);
  const kind = config?.type;
  if (!["WordPiece", "WordLevel"].includes(kind)) throw unknown("model", kind);
  if (unknownId === undefined) {
    throw new Error(`no token '${config.unk_token}' for unknown words`);
  }
  if (kind === "WordLevel") return (word) => [vocabulary.get(word) ?? unknownId];
  const prefix: string = config.continuing_subword_prefix;
  const longest: number = config.max_input_chars_per_word;
  return (word) => {
    const characters = [...word];
    if (characters.length > longest) return [unknownId];
    const ids: number[] = [];
    for (let start = 0; start < characters.length; ) {
      let end = characters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        const piece = characters.slice(start, end).join("");
        id = vocabulary.get(start ? prefix + piece : piece);
        if (id !== undefined) break;
      }
      if (id === undefined) return [unknownId];
      ids.push(id);
      start = end;
    }
    return ids;
  };
}

/** Tokens that are found in a text as they stand, before all else. */
function addedTokens(tokens: Config[]) {
  const ids = new Map<string, number>();
  for (const one of tokens) {
    if (one.single_word || one.lstrip || one.rstrip || one.normalized) {
      throw unknown("added token", one.content);
    }
    ids.set(one.content, one.id);
  }
  // The longest first, as the library takes the longest.
  const contents = [...ids.keys()].sort((a, b) => b.length - a.length);
  const pattern = contents.length
    ? new RegExp(`(${contents.map(escaped).join("|")})`, "u")
    : null;
  return { pattern, ids };
}

function templates(config: Config) {
  if (config === null || config === undefined) {
    const [a, b] = [{ text: "A", type: 0 }, { text: "B", type: 1 }];
    return { single: [a], pair: [a, b] };
  }
  if (config.type !== "TemplateProcessing") {
    throw unknown("post-processor", config.type);
  }
  const read = (parts: Config[]) =>
    parts.map(({ Sequence: sequence, SpecialToken: special }) =>
      sequence
        ? { text: sequence.id, type: sequence.type_id }
        : {
            ids: config.special_tokens[special.id].ids as number[],
            type: special.type_id,
          },
    );
  return { single: read(config.single), pair: read(config.pair) };
}

/** The library's regular expressions, in JavaScript's stricter syntax. */
function patternOf(pattern: Config): RegExp {
  if (pattern.String !== undefined) {
    return new RegExp(escaped(pattern.String), "gu");
  }
  const source = String(pattern.Regex).replace(
    /\\([^A-Za-z0-9])/g,
    (whole, one: string) =>
      "^$\\.*+?()[]{}|/-".includes(one) ? whole : one,
  );
  return new RegExp(source, "gu");
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

function mapped(
  text: string,
  change: (one: string, code: number) => string,
): string {
  let result = "";
  for (const one of text) result += change(one, one.codePointAt(0)!);
  return result;
}

function inTurn(steps: Text[]): Text {
  return (text) => steps.reduce((result, step) => step(result), text);
}

function unknown(kind: string, name: unknown): Error {
  return new Error(`the ${kind} '${name}' is not known in a browser`);
}
