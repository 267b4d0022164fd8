import { InputError } from "./errors";
import type { InputSpec } from "./manifest";
import { ARRAYS, type Inputs, type NumberArray, type Tensor } from "./tensors";

/** Numbers of one example, nested by its axes or as one flat array. */
export type Numbers = NumberArray | readonly (number | boolean | Numbers)[];

/** One example: numbers or a text, or one of these per input. */
export type Example = Numbers | string | Record<string, Numbers | string>;

const MAX_CHARACTERS = 1_000_000;
const SCALES = {
  "0-1": [0, 1], "0-255": [0, 255], "-1-1": [-1, 1], none: [0, 255],
} as const;
/** Python's white space. */
const BLANK =
  /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/;
const LONE_SURROGATE =
  /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/**
 * Converts one example to the tensors that a model takes, a batch of one.
 *
 * @param example as in `EdgeCascade.predict`.
 * @param specs the manifest's inputs.
 * @param checkRange refuse values far outside of the calibration's range.
 * @throws InputError names, shapes, types or values do not fit.
 */
export function prepareExample(
  example: Example,
  specs: InputSpec[],
  checkRange = true,
): Inputs {
  const names = specs.map((spec) => spec.name);
  let byName: Record<string, Numbers | string>;
  if (isByName(example)) {
    byName = example;
  } else if (specs.length > 1) {
    throw new InputError(
      `Expected an object with the inputs ${list(names)}. Received: ` +
        `${typeName(example)}.`,
    );
  } else {
    byName = { [names[0]!]: example };
  }
  const received = Object.keys(byName);
  if (
    received.length !== names.length || !names.every((name) => name in byName)
  ) {
    throw new InputError(
      `Expected the inputs ${list(names)}. Received: ` +
        `${list(received.slice(0, 10))}.`,
    );
  }
  const inputs: Inputs = {};
  for (const spec of specs) {
    const value = byName[spec.name]!;
    inputs[spec.name] =
      spec.dtype === "string"
        ? textTensor(value, spec)
        : numberTensor(value, spec, checkRange);
  }
  return inputs;
}

/**
 * Scale of an image input: the values of a pixel of 0 and of one of 255.
 *
 * @returns `null` of inputs that are no images of a known scale.
 */
export function imageScale(spec: InputSpec): keyof typeof SCALES | null {
  if (spec.shape.length !== 4) return null;
  if (spec.scale !== undefined) return spec.scale;
  if (/^u?int/.test(spec.dtype)) return "none";
  return scaleOfRange(spec.range ?? [0, 1]);
}

function textTensor(value: Numbers | string, spec: InputSpec): Tensor {
  const where = `input '${spec.name}'`;
  if (typeof value !== "string") {
    throw new InputError(
      `Expected text in ${where}, a string. Received: ${typeName(value)}.`,
    );
  }
  if (BLANK.test(value)) {
    const content = value ? "white space alone" : "an empty string";
    throw new InputError(`Expected text in ${where}. Received ${content}.`);
  }
  if (value.length > MAX_CHARACTERS) {
    let characters = 0;
    for (const _ of value) characters++;
    if (characters > MAX_CHARACTERS) {
      throw new InputError(
        `Expected texts of at most ${MAX_CHARACTERS} characters in ${where}. ` +
          `Received ${characters}. Cut it: a model reads far less.`,
      );
    }
  }
  const lone = LONE_SURROGATE.exec(value);
  if (lone !== null) {
    throw new InputError(
      `Expected text in ${where}. Received half a surrogate pair, character ` +
        `${lone.index}: no valid Unicode.`,
    );
  }
  const shape = spec.shape.map((size) => size ?? 1);
  if (shape.some((size) => size !== 1)) {
    throw new InputError(
      `Expected ${where} of shape ${shapeText(spec)}. Received: one text.`,
    );
  }
  return { dtype: "string", shape, data: [value] };
}

function numberTensor(
  value: Numbers | string,
  spec: InputSpec,
  checkRange: boolean,
): Tensor {
  const where = `input '${spec.name}'`;
  const Kind = ARRAYS[spec.dtype as keyof typeof ARRAYS];
  if (Kind === undefined) {
    throw new InputError(
      `The browser has no ${spec.dtype}, the type of ${where}.`,
    );
  }
  if (typeof value === "string" || !isNumbers(value)) {
    throw new InputError(
      `Expected ${where} to hold ${spec.dtype}. Received: ${typeName(value)}.`,
    );
  }
  const { shape: received, values } = flat(value, where);
  const row = spec.shape.slice(1);
  const shape = fittingShape(received, row, spec.dtype, where, spec);
  const isFloat = spec.dtype.startsWith("float");
  const data = new Kind(values.length);
  let least = Infinity;
  let greatest = -Infinity;
  let whole = true;
  for (let i = 0; i < values.length; i++) {
    const one = values[i]!;
    const number = Number(one);
    if (!Number.isFinite(isFloat ? Math.fround(number) : number)) {
      throw new InputError(
        `Expected finite values in ${where}. Received NaN or infinity.`,
      );
    }
    whole &&= Number.isInteger(number);
    least = Math.min(least, number);
    greatest = Math.max(greatest, number);
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
      if (typeof one !== "bigint" && !Number.isSafeInteger(number)) {
        throw misfit(spec, number);
      }
      data[i] = BigInt(one);
    } else {
      data[i] = number;
    }
    if (!isFloat && Number(data[i]) !== number) throw misfit(spec, number);
  }
  if (spec.dtype === "bool" && greatest > 1) throw misfit(spec, greatest);
  if (checkRange && spec.range !== null && values.length) {
    const isBytes = !(value instanceof Float32Array) && whole;
    if (isFloat && isBytes && spec.range[1] <= 1 && greatest > 1) {
      throw new InputError(
        `Expected ${where} in the range ${list(spec.range)} that the model ` +
          `was calibrated on. Received integers up to ${greatest}. Divide ` +
          "pixel values by 255.",
      );
    }
    if (isFloat) {
      checkValues(least, greatest, spec, where);
    }
  }
  return { dtype: spec.dtype, shape: [1, ...shape], data };
}

/** Values far outside of the calibration's range, as Python's `RangeCheck`. */
function checkValues(
  least: number,
  greatest: number,
  spec: InputSpec,
  where: string,
): void {
  let [low, high] = spec.range!;
  const image = spec.shape.length === 4;
  const scale = image ? scaleOfRange(spec.range!) : null;
  if (scale !== null) [low, high] = SCALES[scale];
  const slack = (high - low) * (image ? 0.5 : 4);
  const outside = slack > 0 && (least < low - slack || greatest > high + slack);
  const tooSmall =
    image && low >= 0 && high > 64 && 0 < greatest && greatest <= 1;
  if (outside || tooSmall) {
    const position = outside ? "far outside of" : "all at the low end of";
    throw new InputError(
      `Expected ${where} scaled as in training. Received values from ` +
        `${short(least)} to ${short(greatest)}, ${position} ${short(low)} to ` +
        `${short(high)}, the range of the data that the bundle was ` +
        "calibrated on. Scale them, or pass `checkRange: false`.",
    );
  }
}

function scaleOfRange([low, high]: readonly [number, number]) {
  if (low >= 0 && high <= 1) return "0-1";
  if (low >= -1 && high <= 1) return "-1-1";
  return low >= 0 && 2 < high && high <= 255 ? "0-255" : null;
}

/** Shape of the example: as it is nested, or the model's of a flat array. */
function fittingShape(
  received: number[],
  row: (number | null)[],
  dtype: string,
  where: string,
  spec: InputSpec,
): number[] {
  const isOf = (shape: number[], sizes: (number | null)[]) =>
    shape.length === sizes.length &&
    shape.every((size, axis) => sizes[axis] === null || sizes[axis] === size);
  if (isOf(received, row)) return received;
  // A batch of one, and an image in grayscale without its last axis.
  if (received[0] === 1 && isOf(received.slice(1), row)) {
    return received.slice(1);
  }
  if (row[row.length - 1] === 1 && isOf([...received, 1], row)) {
    return [...received, 1];
  }
  const size = row.reduce<number>((product, one) => product * (one ?? NaN), 1);
  if (received.length === 1 && received[0] === size) return row as number[];
  throw new InputError(
    `Expected ${where} of shape ${shapeText(spec)} and type ${dtype}, one ` +
      `example. Received: ${list(received)}.`,
  );
}

function flat(value: Numbers, where: string) {
  if (ArrayBuffer.isView(value)) {
    const values = value as NumberArray;
    return { shape: [values.length], values: values as ArrayLike<number> };
  }
  const shape: number[] = [];
  const values: (number | bigint)[] = [];
  const collect = (one: unknown, axis: number): void => {
    if (!isNumbers(one)) {
      const kind = typeof one;
      if (!["number", "boolean", "bigint"].includes(kind)) {
        throw new InputError(
          `Expected numbers in ${where}. Received: ${typeName(one)}.`,
        );
      }
      if (axis !== shape.length) throw ragged(where);
      values.push(kind === "boolean" ? Number(one) : (one as number));
      return;
    }
    if (axis === shape.length && !values.length) shape.push(one.length);
    if (shape[axis] !== one.length) throw ragged(where);
    for (const part of one as ArrayLike<unknown> & Iterable<unknown>) {
      collect(part, axis + 1);
    }
  };
  collect(value, 0);
  return { shape, values: values as ArrayLike<number> };
}

function ragged(where: string): InputError {
  return new InputError(
    `Expected ${where} to be an array of numbers. Received rows of ` +
      "different lengths.",
  );
}

function misfit(spec: InputSpec, value: number): InputError {
  return new InputError(
    `Expected input '${spec.name}' to hold ${spec.dtype}. Received: ${value}.`,
  );
}

function isNumbers(value: unknown): value is NumberArray | readonly unknown[] {
  return (
    Array.isArray(value) ||
    (ArrayBuffer.isView(value) && !(value instanceof DataView))
  );
}

function isByName(
  example: Example,
): example is Record<string, Numbers | string> {
  return (
    typeof example === "object" && example !== null && !isNumbers(example)
  );
}

function typeName(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return typeof value === "object" ? value.constructor.name : typeof value;
}

function shapeText(spec: InputSpec): string {
  return list(["batch", ...spec.shape.slice(1)]);
}

function list(values: readonly unknown[]): string {
  return `[${values.map((one) => (one === null ? "any" : one)).join(", ")}]`;
}

function short(value: number): string {
  return String(Number(value.toPrecision(6)));
}
