import type { CompiledModel } from "@litertjs/core";

import { BundleError, reason } from "./errors";
import type { InputSpec } from "./manifest";
import { type Student, type StudentOutput, Turns } from "./student";
import type { Inputs } from "./tensors";

/**
 * The build without relaxed SIMD, whose results may depend on the machine:
 * this one computes alike in every browser.
 */
const LOADER = "litert_wasm_compat_internal.js";
const OUTPUTS = ["probabilities", "score", "delegate"] as const;
const DTYPES = ["float32", "int32", "uint8"];

/** The student's TFLite file in LiteRT.js, on the CPU. */
export class LiteRtStudent implements Student {
  private readonly turns = new Turns();

  private constructor(
    private readonly core: typeof import("@litertjs/core"),
    private readonly model: CompiledModel,
    readonly shapes: Record<string, number[]>,
  ) {}

  /**
   * Compiles the file.
   *
   * @param content bytes of the TFLite file.
   * @param specs inputs of the file, as in the manifest.
   * @param classes number of classes.
   * @param wasm URL of the folder with LiteRT.js's WebAssembly files.
   * @param where URL of the file, for errors.
   * @param exportedBy version that wrote the bundle, for errors.
   * @throws BundleError LiteRT.js cannot run the file, or it does not fit.
   */
  static async load(
    content: Uint8Array,
    specs: InputSpec[],
    classes: number,
    wasm: string,
    where: string,
    exportedBy: string,
  ): Promise<LiteRtStudent> {
    const foreign = specs.find((spec) => !DTYPES.includes(spec.dtype));
    if (foreign !== undefined) {
      throw new BundleError(
        `LiteRT.js takes inputs of the types ${DTYPES.join(", ")}. Received: ` +
          `input '${foreign.name}' of ${foreign.dtype}, in ${where}. Export ` +
          "the bundle without `io_type`, or with `onnx=True` and load it with " +
          "`runtime: \"onnx\"`.",
      );
    }
    const core = await import("@litertjs/core");
    await runtime(core, wasm);
    let model: CompiledModel;
    try {
      model = await core.loadAndCompile(content, { accelerator: "wasm" });
    } catch (error) {
      throw unusable(where, exportedBy, error);
    }
    try {
      const shapes = detailsOf(model, specs, classes, where);
      const student = new LiteRtStudent(core, model, shapes);
      // Fails now rather than on the first example.
      await student.run(zeros(specs, shapes));
      return student;
    } catch (error) {
      model.delete();
      if (error instanceof BundleError) throw error;
      throw unusable(where, exportedBy, error);
    }
  }

  run(inputs: Inputs): Promise<StudentOutput> {
    return this.turns.take(() => this.runNow(inputs));
  }

  close(): void {
    this.model.delete();
  }

  private async runNow(inputs: Inputs): Promise<StudentOutput> {
    const tensors: Record<string, InstanceType<typeof this.core.Tensor>> = {};
    let outputs: typeof tensors = {};
    try {
      for (const [name, { data, shape }] of Object.entries(inputs)) {
        tensors[name] = new this.core.Tensor(data as Float32Array, shape);
      }
      outputs = await this.model.run(tensors);
      const values = await Promise.all(
        OUTPUTS.map(async (name) => (await outputs[name]!.data()).slice()),
      );
      const [probabilities, score, delegate] = values;
      return {
        probabilities: probabilities as Float32Array,
        score: score![0]!,
        delegate: delegate![0] !== 0,
      };
    } finally {
      for (const one of [...Object.values(tensors), ...Object.values(outputs)]) {
        if (!one.deleted) one.delete();
      }
    }
  }
}

let started: { wasm: string; ready: Promise<unknown> } | undefined;

/** Loads LiteRT.js once per page. */
async function runtime(
  core: typeof import("@litertjs/core"),
  wasm: string,
): Promise<void> {
  if (core.getGlobalLiteRtPromise() === undefined || started === undefined) {
    const url = new URL(LOADER, folderUrl(wasm)).href;
    const loading =
      core.getGlobalLiteRtPromise() ?? core.loadLiteRt(url);
    started = { wasm, ready: loading };
  }
  try {
    await started.ready;
  } catch (error) {
    started = undefined;
    throw new BundleError(
      `Expected LiteRT.js's ${LOADER} and its .wasm file in ` +
        `${folderUrl(wasm)}. They cannot be loaded (${reason(error)}). Copy ` +
        "the folder 'wasm' of the npm package @litertjs/core there, or pass " +
        "`wasm`, its URL.",
      { cause: error },
    );
  }
}

/** Absolute URL of a folder, relative to the page. */
export function folderUrl(folder: string): string {
  const url = new URL(folder, globalThis.document?.baseURI);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url.href;
}

function detailsOf(
  model: CompiledModel,
  specs: InputSpec[],
  classes: number,
  where: string,
): Record<string, number[]> {
  const outputs = new Map(
    model.getOutputDetails().map((one) => [one.name, [...one.shape]]),
  );
  const missing = OUTPUTS.filter((name) => !outputs.has(name));
  if (missing.length) {
    throw new BundleError(
      `${where} lacks the outputs ${missing.join(", ")}. Export the bundle ` +
        "again.",
    );
  }
  const shapes: Record<string, number[]> = {};
  for (const one of model.getInputDetails()) shapes[one.name] = [...one.shape];
  const fits =
    Object.keys(shapes).length === specs.length &&
    specs.every(({ name, shape }) => {
      const own = shapes[name];
      return (
        own?.length === shape.length && own[0] === 1 &&
        shape.every((size, axis) => !axis || size === null || size === own[axis])
      );
    }) &&
    outputs.get("probabilities")!.at(-1) === classes;
  if (!fits) {
    throw new BundleError(
      `${where} does not fit its manifest. Expected: one row of the inputs ` +
        `${JSON.stringify(specs.map((one) => [one.name, one.shape]))} and ` +
        `${classes} classes. Received: ${JSON.stringify(shapes)} and ` +
        `${outputs.get("probabilities")!.at(-1)} classes. Export the bundle ` +
        "again.",
    );
  }
  return shapes;
}

function zeros(specs: InputSpec[], shapes: Record<string, number[]>): Inputs {
  const arrays = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
  return Object.fromEntries(
    specs.map(({ name, dtype }) => {
      const shape = shapes[name]!;
      const size = shape.reduce((a, b) => a * b, 1);
      const data = new arrays[dtype as keyof typeof arrays](size);
      return [name, { dtype, shape, data }];
    }),
  );
}

function unusable(
  where: string,
  exportedBy: string,
  error: unknown,
): BundleError {
  return new BundleError(
    `LiteRT.js cannot run ${where}, exported by keras_cascade ${exportedBy} ` +
      `(${reason(error).slice(0, 300)}). A browser takes one row of fixed ` +
      "sizes, which bundles of 0.1.0 do not have: export the bundle again " +
      "with keras_cascade 0.2 or later.",
    { cause: error },
  );
}
