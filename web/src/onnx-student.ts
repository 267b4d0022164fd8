import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-web";

import { BundleError, reason } from "./errors";
import { folderUrl } from "./litert-student";
import type { InputSpec } from "./manifest";
import { type Student, type StudentOutput, Turns } from "./student";
import type { Inputs } from "./tensors";

const OUTPUTS = ["probabilities", "score", "delegate"];

/** The student's ONNX file in onnxruntime-web, on the CPU. */
export class OnnxStudent implements Student {
  private readonly turns = new Turns();

  private constructor(
    private readonly ort: typeof import("onnxruntime-web"),
    private readonly session: InferenceSession,
    readonly shapes: Record<string, number[]>,
  ) {}

  /**
   * Opens the file.
   *
   * @param content bytes of the ONNX file.
   * @param specs inputs of the file, as in the manifest.
   * @param wasm URL of the folder with onnxruntime-web's WebAssembly files.
   * @param where URL of the file, for errors.
   * @throws BundleError onnxruntime-web is not there or cannot run the file.
   */
  static async load(
    content: Uint8Array,
    specs: InputSpec[],
    wasm: string,
    where: string,
  ): Promise<OnnxStudent> {
    let ort: typeof import("onnxruntime-web");
    try {
      // The build for the CPU alone; it has the types of the whole.
      ort = (await import("onnxruntime-web/wasm")) as unknown as typeof ort;
    } catch (error) {
      throw new BundleError(
        "Expected the npm package onnxruntime-web with `runtime: \"onnx\"`. " +
          `It cannot be loaded (${reason(error)}). Install it.`,
        { cause: error },
      );
    }
    // The defaults are a thread per core, which needs a page with
    // cross-origin isolation.
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = folderUrl(wasm);
    let session: InferenceSession;
    try {
      session = await ort.InferenceSession.create(content, {
        executionProviders: ["wasm"],
      });
    } catch (error) {
      throw new BundleError(
        `onnxruntime-web cannot run ${where} (${reason(error).slice(0, 300)}). ` +
          `Are its .wasm files in ${folderUrl(wasm)}, and was the bundle ` +
          "exported with `onnx=True`?",
        { cause: error },
      );
    }
    const names = specs.map((spec) => spec.name);
    if (
      !OUTPUTS.every((name) => session.outputNames.includes(name)) ||
      names.length !== session.inputNames.length ||
      !names.every((name) => session.inputNames.includes(name))
    ) {
      throw new BundleError(
        `${where} does not fit its manifest. Expected: the inputs ${names} ` +
          `and outputs ${OUTPUTS}. Received: ${session.inputNames} and ` +
          `${session.outputNames}. Export the bundle again.`,
      );
    }
    const shapes = Object.fromEntries(
      specs.map(({ name, shape }) => [name, shape.map((size) => size ?? -1)]),
    );
    return new OnnxStudent(ort, session, shapes);
  }

  run(inputs: Inputs): Promise<StudentOutput> {
    return this.turns.take(async () => {
      const feeds: Record<string, OrtTensor> = {};
      for (const [name, { dtype, data, shape }] of Object.entries(inputs)) {
        feeds[name] = new this.ort.Tensor(
          dtype as "float32", data as Float32Array, shape,
        );
      }
      const outputs = await this.session.run(feeds, OUTPUTS);
      return {
        probabilities: Float32Array.from(
          outputs.probabilities!.data as Float32Array,
        ),
        score: Number(outputs.score!.data[0]),
        // int32, or bool in older files: both arrive as numbers.
        delegate: Number(outputs.delegate!.data[0]) !== 0,
      };
    });
  }

  close(): void {
    void this.session.release();
  }
}
