import type { Tokenizer } from "@huggingface/tokenizers";

import { BundleError, reason } from "./errors";
import type { TextSpec } from "./manifest";
import type { Inputs } from "./tensors";

interface Encoding {
  ids: number[];
  types: number[];
  truncated: boolean;
}

/** Maps texts to a model's token ids, as Python's `TextReader`. */
export class TextReader {
  private constructor(
    private readonly spec: TextSpec,
    private readonly tokenizer: Tokenizer,
    private readonly padId: number,
  ) {}

  /**
   * Opens a tokenizer.
   *
   * @param content bytes of a `tokenizer.json`.
   * @param spec the manifest's `text`.
   * @param where URL of the file, for errors.
   * @throws BundleError it makes other tokens than the manifest states.
   */
  static async load(
    content: Uint8Array,
    spec: TextSpec,
    where: string,
  ): Promise<TextReader> {
    let reader: TextReader;
    try {
      const { Tokenizer } = await import("@huggingface/tokenizers");
      const json = JSON.parse(new TextDecoder().decode(content));
      const tokenizer = new Tokenizer(json, {});
      const padId = tokenizer.token_to_id(spec.pad);
      if (padId === undefined) throw new Error(`no token '${spec.pad}'`);
      reader = new TextReader(spec, tokenizer, padId);
    } catch (error) {
      throw new BundleError(
        `${where} cannot be used as a tokenizer (${reason(error)}).`,
        { cause: error },
      );
    }
    reader.check(where);
    return reader;
  }

  /**
   * Tokenizes the texts of one example.
   *
   * @param inputs the cascade's inputs, a batch of one.
   * @param shapes shapes of the model's inputs: -1 is a free length.
   * @returns the model's inputs, and whether a text was cut.
   */
  read(
    inputs: Inputs,
    shapes: Record<string, number[]>,
  ): { inputs: Inputs; truncated: boolean } {
    const [encoding] = this.encodeRows(inputs);
    const fixed = Object.keys(this.spec.feeds)
      .map((name) => shapes[name]?.[1] ?? -1)
      .find((length) => length > 0);
    if (fixed !== undefined && fixed < encoding!.ids.length) {
      throw new BundleError(
        `The student reads ${fixed} tokens; its manifest says ` +
          `${this.lengths.at(-1)}. Export the bundle again.`,
      );
    }
    return {
      inputs: this.padded([encoding!], fixed),
      truncated: encoding!.truncated,
    };
  }

  /** Tokenizes a batch, padded to the shortest length that holds it. */
  readBatch(inputs: Inputs): Inputs {
    return this.padded(this.encodeRows(inputs));
  }

  private encodeRows(inputs: Inputs): Encoding[] {
    const columns = this.spec.fields.map(
      (name) => inputs[name]!.data as string[],
    );
    return columns[0]!.map((_, row) =>
      this.encode(columns.map((column) => column[row]!)),
    );
  }

  private padded(rows: Encoding[], fixed?: number): Inputs {
    const longest = Math.max(...rows.map(({ ids }) => ids.length));
    const width = fixed ?? this.lengths.find((length) => length >= longest)!;
    const column = (values: (row: Encoding) => number[], fill: number) => {
      const data = new Int32Array(rows.length * width).fill(fill);
      rows.forEach((row, i) => data.set(values(row), i * width));
      return data;
    };
    const columns = {
      token_ids: column(({ ids }) => ids, this.padId),
      segment_ids: column(({ types }) => types, 0),
      padding_mask: column(({ ids }) => ids.map(() => 1), 0),
    };
    const fed: Inputs = {};
    for (const [name, kind] of Object.entries(this.spec.feeds)) {
      const shape = [rows.length, width];
      fed[name] = { dtype: "int32", shape, data: columns[kind] };
    }
    return fed;
  }

  private get lengths(): number[] {
    return this.spec.lengths;
  }

  private encode(texts: string[]): Encoding {
    const longest = this.lengths.at(-1)!;
    const [first, second] = texts.map((text) => this.plain(text));
    const whole = this.tokenizer.encode(texts[0]!, {
      text_pair: texts[1] ?? null,
      return_token_type_ids: true,
    });
    const own = first!.length + (second?.length ?? 0);
    const special = whole.ids.length - own;
    const room = longest - special;
    const truncated = own > room;
    let ids = whole.ids;
    let types = whole.token_type_ids ?? ids.map(() => 0);
    if (truncated) {
      let a = room;
      let b = 0;
      if (second !== undefined) {
        // In turns: the first has the odd token.
        a = Math.min(first!.length, Math.max(room - second.length, room - (room >> 1)));
        b = room - a;
      }
      const kept = this.cut(ids, first!, second, a, b);
      ids = kept.map((i) => whole.ids[i]!);
      types = kept.map((i) => types[i]!);
    }
    if (second === undefined) types = ids.map(() => 0);
    return { ids, types, truncated };
  }

  /** Indices that are left of a sequence when its texts are cut. */
  private cut(
    ids: number[],
    first: number[],
    second: number[] | undefined,
    a: number,
    b: number,
  ): number[] {
    const start = find(ids, first, 0);
    const drop = new Set<number>();
    for (let i = start + a; i < start + first.length; i++) drop.add(i);
    if (second !== undefined) {
      const after = find(ids, second, start + first.length);
      for (let i = after + b; i < after + second.length; i++) drop.add(i);
    }
    return ids.map((_, i) => i).filter((i) => !drop.has(i));
  }

  private plain(text: string): number[] {
    return this.tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  private check(where: string): void {
    for (const vector of this.spec.vectors) {
      const { ids, types } = this.encode(
        vector.second === undefined
          ? [vector.text]
          : [vector.text, vector.second],
      );
      const same =
        equal(ids, vector.token_ids) &&
        (vector.segment_ids === undefined || equal(types, vector.segment_ids));
      if (!same) {
        throw new BundleError(
          `${where} does not make the tokens that the manifest states, of ` +
            `${JSON.stringify(vector.text.slice(0, 40))}. Expected: ` +
            `[${vector.token_ids.slice(0, 8)}]. Received: [${ids.slice(0, 8)}]. ` +
            "This browser's texts would be read in another way.",
        );
      }
    }
  }
}

function equal(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((one, i) => one === b[i]);
}

/** Position of a run of ids in a sequence. */
function find(ids: number[], part: number[], from: number): number {
  for (let start = from; start + part.length <= ids.length; start++) {
    if (part.every((one, i) => ids[start + i] === one)) return start;
  }
  throw new BundleError(
    "The tokenizer's special tokens change the tokens beside them: its texts " +
      "cannot be cut in a browser.",
  );
}
