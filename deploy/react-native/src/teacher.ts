import { TeacherError } from "./errors.js";
import {
  type InputSpec, type Manifest, teacherIdentity, teacherOutput,
} from "./manifest.js";

const TYPES: Record<string, string> = {
  bool: "BOOL", float32: "FP32", float64: "FP64", int8: "INT8", int16: "INT16",
  int32: "INT32", int64: "INT64", uint8: "UINT8", uint16: "UINT16",
  uint32: "UINT32", uint64: "UINT64",
};

export interface TeacherOptions {
  /** Sent as `Authorization: Bearer`. */
  token?: string;
  /** Seconds for one whole request. Defaults to 10. */
  timeout?: number;
  /**
   * `"required"`: answers must state the identity of the bundle's teacher, as
   * `keras-cascade serve` does. `"off"`: any teacher is asked.
   */
  identity?: "required" | "off";
}

/** A teacher behind Open Inference Protocol v2, with tensors as JSON. */
export class Teacher {
  private readonly identity: string | null;
  private readonly input: InputSpec;

  /**
   * @param url such as `https://teacher.example/v2/models/teacher`.
   */
  constructor(
    private readonly url: string,
    private readonly manifest: Manifest,
    private readonly options: TeacherOptions = {},
  ) {
    this.identity = options.identity === "off" ? null : teacherIdentity(manifest);
    this.input = (manifest.teacher?.input ?? manifest.input)[0]!;
  }

  /**
   * Asks for the logits of one row; once, without retries.
   *
   * @throws TeacherError
   */
  async logits(row: ArrayLike<number>): Promise<number[]> {
    const { token, timeout = 10 } = this.options;
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), timeout * 1000);
    try {
      const response = await fetch(`${this.url}/infer`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
        body: this.body(row),
        signal: abort.signal,
      });
      const text = await response.text();
      return this.read(
        response.status, response.headers.get("x-cascade-teacher"), text,
      );
    } catch (error) {
      if (error instanceof TeacherError) throw error;
      throw new TeacherError(
        abort.signal.aborted
          ? `The teacher at ${this.url} gave no whole answer in ${timeout} s.`
          : `The teacher at ${this.url} cannot be reached (${error}).`,
      );
    } finally {
      clearTimeout(timer);
    }
  }

  private body(row: ArrayLike<number>): string {
    const { name, dtype, shape } = this.input;
    return JSON.stringify({
      inputs: [{
        name,
        datatype: TYPES[dtype],
        shape: [1, ...shape.slice(1)],
        data: Array.from(row),
      }],
      outputs: [{ name: this.output }],
    });
  }

  private get output(): string {
    return teacherOutput(this.manifest);
  }

  private read(
    status: number,
    stated: string | null,
    text: string,
  ): number[] {
    if (status !== 200) {
      throw new TeacherError(
        `The teacher at ${this.url} answered status ${status}: ` +
          text.slice(0, 200),
      );
    }
    let answer: any = null;
    try {
      answer = JSON.parse(text);
    } catch {
      // it has no usable output
    }
    const found = stated ?? answer?.parameters?.teacher ?? null;
    if (this.identity !== null && found !== this.identity) {
      throw new TeacherError(
        found === null
          ? `The teacher at ${this.url} does not state its identity. Serve ` +
            "the bundle's teacher with `keras-cascade serve`, or pass " +
            '`identity: "off"`.'
          : `The teacher at ${this.url} is not the bundle's. Serve this ` +
            "bundle's teacher there.",
      );
    }
    const outputs: any[] = Array.isArray(answer?.outputs) ? answer.outputs : [];
    const output = outputs.find((one) => one?.name === this.output);
    const data: unknown[] = [output?.data].flat(2);
    const classes = this.manifest.classes.length;
    if (
      output?.shape?.[0] !== 1 || output.shape[1] !== classes ||
      output.shape.length !== 2 || data.length !== classes ||
      !data.every((one) => Number.isFinite(one))
    ) {
      throw new TeacherError(
        `The teacher's answer has no usable output '${this.output}': ` +
          "expected finite logits of one row.",
      );
    }
    return data as number[];
  }
}
