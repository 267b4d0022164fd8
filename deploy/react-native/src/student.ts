import type { TfliteModel } from "react-native-fast-tflite";

import type { StudentAnswer } from "./decision.js";
import { BundleError } from "./errors.js";
import { type InputSpec, type Manifest, quantized } from "./manifest.js";

const ARRAYS: Record<string, { new (values: ArrayLike<number>): ArrayBufferView }> = {
  float32: Float32Array, int8: Int8Array, uint8: Uint8Array, int32: Int32Array,
};

/**
 * Runs `student.tflite` row by row. (`student_batch.tflite` is for machines
 * that resize their inputs; delegates of phones do not.)
 */
export class Student {
  private constructor(
    private readonly model: TfliteModel,
    private readonly spec: InputSpec,
    private readonly size: number,
    private readonly at: { probabilities: number; score: number; delegate: number },
  ) {}

  /**
   * @param url of `student.tflite`, such as `file:///.../student.tflite`.
   * @param manifest of the same bundle.
   * @param delegates of react-native-fast-tflite; none is the CPU. A delegate
   *     may round otherwise than the runtime that the threshold is for:
   *     docs/runtimes.md.
   * @throws BundleError the file is not one that this class runs.
   */
  static async load(
    url: string,
    manifest: Manifest,
    delegates: TfliteModel["delegates"] = [],
  ): Promise<Student> {
    const { loadTensorflowModel } = await import("react-native-fast-tflite");
    return Student.of(await loadTensorflowModel({ url }, delegates), manifest);
  }

  /** @param model that is loaded already. */
  static of(model: TfliteModel, manifest: Manifest): Student {
    return new Student(model, ...fitting(model, manifest));
  }

  /** @param row numbers of one row, in row-major order. */
  async run(row: ArrayLike<number>): Promise<StudentAnswer> {
    if (row.length !== this.size) {
      throw new RangeError(
        `Expected ${this.size} numbers. Received: ${row.length}.`,
      );
    }
    const Kind = ARRAYS[this.model.inputs[0]!.dataType]!;
    // A copy, whose buffer holds nothing else.
    const values = this.spec.quantization ? quantized(row, this.spec) : row;
    const input = new Kind(values).buffer as ArrayBuffer;
    const outputs = await this.model.run([input]);
    const { probabilities, score, delegate } = this.at;
    return {
      // Copies: the buffers are the interpreter's, and the next run's.
      probabilities: new Float32Array(outputs[probabilities]!).slice(),
      score: new Float32Array(outputs[score]!)[0]!,
      delegate: new Int32Array(outputs[delegate]!)[0] !== 0,
    };
  }
}

/** Number of inputs' values, and the outputs' positions. */
function fitting(
  model: TfliteModel,
  manifest: Manifest,
): [InputSpec, number, { probabilities: number; score: number; delegate: number }] {
  const specs = manifest.student.input ?? manifest.input;
  const [input] = model.inputs;
  if (
    specs.length !== 1 || model.inputs.length !== 1 ||
    manifest.student.text !== undefined || input!.dataType !== specs[0]!.dtype ||
    !(input!.dataType in ARRAYS)
  ) {
    throw new BundleError(
      "Expected a student with one input of numbers. Received: inputs " +
        `${specs.map((one) => `${one.name} (${one.dtype})`).join(", ")}.`,
    );
  }
  // The library has the tensors' own names, not those of the signature: the
  // outputs are told apart by type and size.
  const classes = manifest.classes.length;
  const position = (dataType: string, size: number) =>
    model.outputs.findIndex(
      (one) => one.dataType === dataType && sizeOf(one.shape) === size,
    );
  const at = {
    probabilities: position("float32", classes),
    score: position("float32", 1),
    delegate: position("int32", 1),
  };
  if (Object.values(at).includes(-1)) {
    throw new BundleError(
      `Expected float32 probabilities of ${classes} classes, a float32 score ` +
        "and an int32 `delegate`. Received: " +
        `${model.outputs.map((one) => `${one.dataType} ${one.shape}`).join("; ")}. ` +
        "Export the bundle again; files of keras_cascade 0.1.0, and those " +
        "with 8-bit outputs, do not run here.",
    );
  }
  return [specs[0]!, sizeOf(input!.shape), at];
}

function sizeOf(shape: number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
