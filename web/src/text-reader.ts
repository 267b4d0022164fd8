import { BundleError, reason } from "./errors";
import type { TextSpec } from "./manifest";
import type { Inputs } from "./tensors";
import { Tokenizer } from "./tokenizer";

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
  static load(content: Uint8Array, spec: TextSpec, where: string): TextReader {
    let reader: TextReader;
    try {
      const text = new TextDecoder().decode(content);
      const tokenizer = new Tokenizer(JSON.parse(text));
      const padId = tokenizer.tokenId(spec.pad);
      if (padId === undefined) throw new Error(`no token '${spec.pad}'`);
      reader = new TextReader(spec, tokenizer, padId);
    } catch (error) {
      throw new BundleError(
        `${where} cannot be used as a tokenizer (${reason(error)}). Export the ` +
          "bundle with a `kc.text.Tokenizer` of words or WordPiece.",
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
          `${this.spec.lengths.at(-1)}. Export the bundle again.`,
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
    const width = fixed ?? this.spec.lengths.find((length) => length >= longest)!;
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

  private encode(texts: string[]): Encoding {
    const [first, second] = texts.map((text) => this.tokenizer.encode(text));
    const room =
      this.spec.lengths.at(-1)! - this.tokenizer.specialCount(texts.length);
    const truncated = first!.length + (second?.length ?? 0) > room;
    let [a, b] = [first!, second];
    if (truncated) {
      // In turns: the first has the odd token.
      const half = b === undefined ? room : room - (room >> 1);
      a = a.slice(0, Math.max(room - (b?.length ?? 0), half));
      b = b?.slice(0, room - a.length);
    }
    const { ids, types } = this.tokenizer.assemble(a, b);
    // Of single texts Python states none.
    return { ids, types: b === undefined ? ids.map(() => 0) : types, truncated };
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
