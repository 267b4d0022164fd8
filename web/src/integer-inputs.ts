import type { Example, Numbers } from "./inputs";
import type { InputSpec } from "./manifest";
import type { Student, StudentOutput } from "./student";
import type { Inputs } from "./tensors";

const LIMITS = { int8: [-128, 127], uint8: [0, 255] } as const;
const ARRAYS = { int8: Int8Array, uint8: Uint8Array } as const;

/** True where the student's file takes integers for the cascade's floats. */
export function hasIntegerInputs(specs: InputSpec[]): boolean {
  return specs.some((spec) => spec.quantization !== undefined);
}

/** Converts inputs to integers by the manifest's scale, as Python does. */
export class IntegerInputStudent implements Student {
  readonly shapes: Record<string, number[]>;

  constructor(
    private readonly student: Student,
    private readonly specs: InputSpec[],
  ) {
    this.shapes = student.shapes;
  }

  run(inputs: Inputs): Promise<StudentOutput> {
    return this.student.run(quantized(inputs, this.specs));
  }

  close(): void {
    this.student.close();
  }
}

/**
 * The nearest integers, halves to even, in float32 as NumPy computes.
 *
 * @param specs inputs of the student's file, as in the manifest.
 */
export function quantized(inputs: Inputs, specs: InputSpec[]): Inputs {
  const converted = { ...inputs };
  for (const { name, dtype, quantization } of specs) {
    const tensor = inputs[name];
    if (quantization === undefined || tensor === undefined) continue;
    const [low, high] = LIMITS[dtype as keyof typeof LIMITS];
    const scale = Math.fround(quantization.scale);
    const zero = Math.fround(quantization.zero_point);
    const data = new ARRAYS[dtype as keyof typeof ARRAYS](tensor.data.length);
    for (let i = 0; i < data.length; i++) {
      const steps = Math.fround(Number(tensor.data[i]) / scale);
      const value = rounded(Math.fround(steps + zero));
      data[i] = Math.min(high, Math.max(low, value));
    }
    converted[name] = { dtype, shape: tensor.shape, data };
  }
  return converted;
}

/** Arrays of the file's own type, as the floats that they stand for. */
export function dequantized(example: Example, specs: InputSpec[]): Example {
  if (isNumbers(example)) {
    return specs.length === 1 ? floats(example, specs[0]!) : example;
  }
  if (typeof example === "string") return example;
  return Object.fromEntries(
    Object.entries(example).map(([name, value]) => {
      const spec = specs.find((one) => one.name === name);
      const isOne = spec !== undefined && typeof value !== "string";
      return [name, isOne ? floats(value as Numbers, spec) : value];
    }),
  );
}

function floats(value: Numbers, { dtype, quantization }: InputSpec): Numbers {
  if (quantization === undefined) return value;
  const Kind = ARRAYS[dtype as keyof typeof ARRAYS];
  // The pixels of a canvas are such bytes too.
  if (!(value instanceof Kind || (dtype === "uint8" &&
    (value as unknown) instanceof Uint8ClampedArray))) return value;
  const { scale, zero_point: zero } = quantization;
  return Float32Array.from(value as Int8Array, (one) => (one - zero) * scale);
}

function isNumbers(example: Example): example is Numbers {
  return Array.isArray(example) || ArrayBuffer.isView(example);
}

function rounded(value: number): number {
  const near = Math.round(value);
  return near - value === 0.5 && near % 2 !== 0 ? near - 1 : near;
}
