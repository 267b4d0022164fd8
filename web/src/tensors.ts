/** Arrays that hold the numbers of a tensor. */
export type NumberArray =
  | Float32Array | Float64Array
  | Int8Array | Int16Array | Int32Array | BigInt64Array
  | Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

/** A tensor, row-major, the batch first; texts are a list of strings. */
export interface Tensor {
  dtype: string;
  shape: number[];
  data: NumberArray | string[];
}

/** A tensor for each of a model's inputs. */
export type Inputs = Record<string, Tensor>;

/** The arrays of the types that a browser has; bool is a byte, 0 or 1. */
export const ARRAYS = {
  bool: Uint8Array, float32: Float32Array, float64: Float64Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array,
  uint64: BigUint64Array,
} as const;

/** Puts rows together, each with a batch of one. */
export function stack(rows: Inputs[]): Inputs {
  const inputs: Inputs = {};
  for (const [name, first] of Object.entries(rows[0] ?? {})) {
    const parts = rows.map((row) => row[name]!.data);
    const shape = [rows.length, ...first.shape.slice(1)];
    if (Array.isArray(first.data)) {
      const data = (parts as string[][]).flat();
      inputs[name] = { dtype: first.dtype, shape, data };
      continue;
    }
    const size = first.data.length;
    const Kind = first.data.constructor as { new (n: number): NumberArray };
    const data = new Kind(size * rows.length);
    parts.forEach((part, row) => data.set(part as never, row * size));
    inputs[name] = { dtype: first.dtype, shape, data };
  }
  return inputs;
}

/** Softmax in double precision, rounded to float32. */
export function softmax(logits: ArrayLike<number>): Float32Array {
  const values = Array.from(logits);
  const top = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = values.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return Float32Array.from(powers, (power) => power / sum);
}

/** Index of the greatest value, the first of equal ones. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) {
    if (values[i]! > values[best]!) best = i;
  }
  return best;
}
