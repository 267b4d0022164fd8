import { Bundle } from "./bundle";
import { BundleError, CascadeError, TeacherError } from "./errors";
import { HttpTeacher } from "./http-teacher";
import { type Example, prepareExample } from "./inputs";
import {
  dequantized,
  hasIntegerInputs,
  IntegerInputStudent,
} from "./integer-inputs";
import { LiteRtStudent } from "./litert-student";
import {
  type Manifest, type OperatingPoint, teacherOutput, type TextSpec,
} from "./manifest";
import { OnnxStudent } from "./onnx-student";
import type { LateAnswer, Prediction, Source } from "./prediction";
import type { Student, StudentOutput } from "./student";
import { rowsOf, type Teacher, type TeacherContext } from "./teacher";
import { TeacherCaller } from "./teacher-caller";
import { type QueuedRow, TeacherQueue } from "./teacher-queue";
import { argmax, type Inputs, softmax, stack } from "./tensors";
import { TextReader } from "./text-reader";

/** Policy for delegated examples that the teacher does not answer. */
export type OnFailure = "answer" | "abstain" | "raise" | "queue";

const SOURCES: Record<OnFailure, Source | null> = {
  answer: "edge_fallback",
  abstain: "abstained",
  raise: null,
  queue: "queued",
};
const DEFAULT = "default";
/** Rows of one request. */
const BATCH = 64;
/** Failed requests with a row alone, after which it is given up. */
const MAX_TRIES = 5;
const MAX_FLOAT32 = 3.4028234663852886e38;

export interface LoadOptions {
  /**
   * Where the teacher is: a URL (`http(s)://HOST/v2/models/NAME`,
   * `http(s)://HOST/v1/models/NAME`, or `http(s)://HOST:PORT`, whose protocol
   * is detected), an object with `logits(inputs)`, or `null`: none.
   */
  teacher?: string | URL | Teacher | null;
  /** Defaults to `"answer"`. */
  onFailure?: OnFailure;
  /** What runs the student. Defaults to `"litert"`. */
  runtime?: "litert" | "onnx";
  /** Name of one of the bundle's. Defaults to `"default"`, or the first. */
  operatingPoint?: string;
  /** Name of the queue in IndexedDB; needed with `onFailure: "queue"`. */
  queue?: string | { name: string; maxRows?: number };
  /** Sent to the teacher as `Authorization: Bearer`. */
  token?: string;
  /** Seconds for one whole request to the teacher. Defaults to 10. */
  timeout?: number;
  /** Attempts after the first. Defaults to 2. */
  retries?: number;
  /** Failed attempts in a row that open the circuit. Defaults to 5. */
  failuresToOpen?: number;
  /** Seconds for which no request is sent then. Defaults to 10. */
  secondsOpen?: number;
  /**
   * `"required"`: the answers of a server at a URL must state the identity of
   * the bundle's teacher, as `keras-cascade serve` does. `"off"`: any
   * teacher's answer is taken. Defaults to `"required"`.
   */
  teacherIdentity?: "required" | "off";
  /** Tensors as bytes or JSON, with v2. By default the server is asked. */
  binary?: boolean;
  /**
   * URL of the folder with the WebAssembly files of the runtime. Defaults to
   * `"wasm/"`, beside the page.
   */
  wasm?: string;
  /** SHA-256 of `manifest.json`: pins one bundle. */
  sha256?: string;
  /** Refuses values far outside of the manifest's range. Defaults to `true`. */
  checkRange?: boolean;
}

interface Pending {
  inputs: Inputs;
  output: StudentOutput;
  truncated: boolean;
  seconds: number;
}

/**
 * Runs a bundle: the student in this page, the teacher anywhere.
 *
 * ```ts
 * const edge = await EdgeCascade.load("my_bundle/", {
 *   teacher: "https://teacher.example/v2/models/teacher",
 *   onFailure: "answer",
 * });
 * const { name, source, score } = await edge.predict(pixels);
 * ```
 */
export class EdgeCascade {
  private rowsUnreported = 0;
  private point!: OperatingPoint;
  private caller: TeacherCaller | null = null;
  private closed = false;
  private policy: OnFailure;

  private constructor(
    readonly bundle: Bundle,
    private readonly options: LoadOptions,
    private readonly student: Student,
    private readonly points: OperatingPoint[],
    private readonly studentReader: TextReader | null,
    private readonly teacherReader: TextReader | null,
    private readonly queue: TeacherQueue | null,
  ) {
    this.policy = options.onFailure ?? "answer";
  }

  /**
   * Opens a bundle, after checking the manifest and every file that is used.
   *
   * @param url folder of the bundle, relative to the page.
   * @throws BundleError a file is missing, altered, or of another schema.
   * @throws QueueError the queue cannot be used.
   */
  static async load(
    url: string | URL,
    options: LoadOptions = {},
  ): Promise<EdgeCascade> {
    checkOptions(options);
    const bundle = await Bundle.load(url, options.sha256);
    const { manifest } = bundle;
    const studentReader = await readerOf(bundle, manifest.student.text);
    const teacherReader = await readerOf(bundle, manifest.teacher?.text);
    const isOnnx = options.runtime === "onnx";
    const points = isOnnx
      ? [{ ...onnxEntry(bundle).operating_point, name: DEFAULT }]
      : manifest.operating_points;
    let queue: TeacherQueue | null = null;
    if (options.queue !== undefined) {
      const wanted =
        typeof options.queue === "string"
          ? { name: options.queue }
          : options.queue;
      queue = await TeacherQueue.open(wanted.name, manifest, wanted.maxRows);
    }
    try {
      const student = await openStudent(bundle, options, isOnnx);
      const edge = new EdgeCascade(
        bundle, options, student, points, studentReader, teacherReader, queue,
      );
      edge.use(
        options.operatingPoint ??
          (points.some(({ name }) => name === DEFAULT)
            ? DEFAULT
            : points[0]!.name),
      );
      if (options.teacher) {
        edge.caller = new TeacherCaller(
          edge.openTeacher(options.teacher), manifest.classes.length, options,
        );
      }
      return edge;
    } catch (error) {
      queue?.close();
      throw error;
    }
  }

  get manifest(): Manifest {
    return this.bundle.manifest;
  }

  get classes(): string[] {
    return this.manifest.classes;
  }

  /** Names of the operating points that this runtime has. */
  get operatingPoints(): string[] {
    return this.points.map((point) => point.name);
  }

  /** The operating point in use. */
  get operatingPoint(): OperatingPoint {
    return this.point;
  }

  /** Policy for delegated examples, from the next call on. */
  get onFailure(): OnFailure {
    return this.policy;
  }

  set onFailure(policy: OnFailure) {
    checkPolicy(policy, this.queue !== null);
    this.policy = policy;
  }

  /**
   * Switches to another operating point, from the next call on.
   *
   * @throws BundleError there is no such point.
   */
  use(name: string): void {
    const point = this.points.find((one) => one.name === name);
    if (point === undefined) {
      throw new BundleError(
        "Expected an operating point out of " +
          `${this.operatingPoints.join(", ")}. Received: ${name}.`,
      );
    }
    this.point = point;
  }

  /**
   * Predicts one example.
   *
   * @param example numbers, nested or as one flat array in row-major order; a
   *     string; or an object with one of these per input.
   * @throws InputError the example does not fit the manifest.
   * @throws TeacherError with `onFailure: "raise"`.
   * @throws QueueError with `onFailure: "queue"` when the queue is full.
   */
  async predict(example: Example): Promise<Prediction> {
    return (await this.predictAll([example]))[0]!;
  }

  /**
   * Predicts several examples; the teacher is asked about all that are
   * delegated, in requests of at most 64.
   */
  async predictAll(examples: Example[]): Promise<Prediction[]> {
    const started = performance.now();
    const point = this.point;
    const pending: Pending[] = [];
    // All are checked before the first one runs.
    const prepared = examples.map((example) => this.prepared(example));
    for (const inputs of prepared) pending.push(await this.runStudent(inputs));
    const delegated = pending.filter((row) => isDelegated(row.output, point));
    this.rowsUnreported += pending.length - delegated.length;
    const predictions = new Map<Pending, Prediction>();
    for (const row of pending) {
      predictions.set(row, this.kept(row, point));
    }
    for (let start = 0; start < delegated.length; start += BATCH) {
      const part = delegated.slice(start, start + BATCH);
      await this.delegate(part, predictions, point);
    }
    return pending.map((row) => {
      const prediction = predictions.get(row)!;
      prediction.latency.total =
        examples.length === 1
          ? (performance.now() - started) / 1000
          : prediction.latency.student + prediction.latency.teacher;
      return prediction;
    });
  }

  /**
   * Asks the teacher about every queued row once.
   *
   * @returns how many rows were answered; `takeAnswers` hands them out.
   * @throws TeacherError the teacher does not answer; the rest waits.
   */
  async sendQueued(): Promise<number> {
    const queue = this.withQueue();
    const send = async () => {
      let answered = 0;
      const rows = await queue.waiting();
      for (let start = 0; start < rows.length; start += BATCH) {
        answered += await this.sendRows(queue, rows.slice(start, start + BATCH));
      }
      return answered;
    };
    // Two tabs with the same queue take turns.
    return globalThis.navigator?.locks === undefined
      ? send()
      : navigator.locks.request(`keras-cascade/${queue.name}`, send);
  }

  /** Numbers of queued rows that wait, and of answers that nobody took. */
  queueStatus(): Promise<{ waiting: number; answered: number }> {
    return this.withQueue().counts();
  }

  /**
   * Hands out the teacher's late answers, and forgets them once `use` is done.
   * If it throws, they are handed out again, with the same ids.
   */
  async takeAnswers<T>(
    use: (answers: LateAnswer[]) => T | Promise<T>,
  ): Promise<T> {
    const queue = this.withQueue();
    const rows = await queue.answers();
    const answers = rows.map((row): LateAnswer => {
      const { id, score, operatingPoint } = row;
      const shared = { id, score, operatingPoint };
      if (row.logits === null) {
        return {
          ...shared, label: -1, name: null, probabilities: row.probabilities,
          source: "refused", teacherError: row.error,
        };
      }
      const probabilities = softmax(row.logits);
      const label = argmax(probabilities);
      return {
        ...shared, label, name: this.classes[label]!, probabilities,
        source: "cloud", teacherError: null,
      };
    });
    const result = await use(answers);
    await queue.forget(rows.map((row) => row.id));
    return result;
  }

  /** Releases the student and the queue. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.student.close();
    this.queue?.close();
  }

  private prepared(example: Example): Inputs {
    if (this.closed) {
      throw new CascadeError(
        "This cascade is closed: load it again with `EdgeCascade.load`.",
      );
    }
    return prepareExample(
      dequantized(example, this.manifest.student.input ?? []),
      this.manifest.input,
      this.options.checkRange ?? true,
    );
  }

  private async runStudent(inputs: Inputs): Promise<Pending> {
    const started = performance.now();
    let fed = inputs;
    let truncated = false;
    if (this.studentReader !== null) {
      ({ inputs: fed, truncated } = this.studentReader.read(
        inputs, this.student.shapes,
      ));
    }
    const output = await this.student.run(fed);
    const seconds = (performance.now() - started) / 1000;
    return { inputs, output, truncated, seconds };
  }

  private kept(row: Pending, point: OperatingPoint): Prediction {
    const { probabilities, score } = row.output;
    const label = argmax(probabilities);
    const name = this.classes[label]!;
    return {
      label, name, probabilities, score,
      threshold: thresholdOf(point, label),
      source: "edge",
      student: { label, name, probabilities },
      teacherError: null,
      operatingPoint: point.name,
      latency: { student: row.seconds, teacher: 0, total: 0 },
      bytesSent: 0,
      id: null,
      truncated: row.truncated,
    };
  }

  /** Fills in predictions of delegated rows: the teacher's, or the policy's. */
  private async delegate(
    rows: Pending[],
    predictions: Map<Pending, Prediction>,
    point: OperatingPoint,
  ): Promise<void> {
    const started = performance.now();
    let bytes = 0;
    const parts = rows.map((row) => predictions.get(row)!);
    try {
      const logits = await this.logits(
        stack(rows.map((row) => row.inputs)),
        (sent) => (bytes += sent),
      );
      parts.forEach((prediction, i) => {
        prediction.probabilities = softmax(logits[i]!);
        prediction.label = argmax(prediction.probabilities);
        prediction.name = this.classes[prediction.label]!;
        prediction.source = "cloud";
      });
    } catch (error) {
      if (!(error instanceof TeacherError)) throw error;
      const ids =
        this.onFailure === "queue"
          ? await this.withQueue().put(
              rows.map(({ inputs, output }) => ({
                inputs,
                probabilities: output.probabilities,
                score: output.score,
                operatingPoint: point.name,
              })),
            )
          : null;
      if (ids === null) this.rowsUnreported += rows.length;
      const source = SOURCES[this.onFailure];
      if (source === null) throw error;
      parts.forEach((prediction, i) => {
        prediction.source = source;
        prediction.teacherError = error.message;
        prediction.id = ids?.[i] ?? null;
        if (source !== "edge_fallback") {
          prediction.label = -1;
          prediction.name = null;
        }
      });
    }
    const seconds = (performance.now() - started) / 1000;
    for (const prediction of parts) {
      prediction.latency.teacher = seconds;
      prediction.bytesSent = Math.round(bytes / rows.length);
    }
  }

  private async logits(
    inputs: Inputs,
    sent: (bytes: number) => void,
  ): Promise<Float32Array[]> {
    if (this.caller === null) {
      throw new TeacherError("This cascade was loaded without a teacher.", {
        notAsked: true,
      });
    }
    // Counted rows go with one request; if it fails, with the next.
    const rows = Math.min(this.rowsUnreported, 10 ** 9 - 1 - rowsOf(inputs));
    this.rowsUnreported -= rows;
    try {
      return await this.caller.logits(inputs, { rows, sent });
    } catch (error) {
      this.rowsUnreported += rows;
      throw error;
    }
  }

  /** Sends rows; where some fail, in halves, so that none keeps others waiting. */
  private async sendRows(
    queue: TeacherQueue,
    rows: QueuedRow[],
  ): Promise<number> {
    const ids = rows.map((row) => row.id);
    let logits: Float32Array[];
    try {
      const inputs = stack(rows.map((row) => row.inputs));
      logits = await this.logits(inputs, () => undefined);
    } catch (error) {
      const aboutRows =
        error instanceof TeacherError &&
        (error.aboutInput || error.invalidAnswer);
      if (!aboutRows) throw error;
      if (rows.length > 1) {
        const half = rows.length >> 1;
        const first = await this.sendRows(queue, rows.slice(0, half));
        return first + (await this.sendRows(queue, rows.slice(half)));
      }
      if ((await queue.failed(ids[0]!)) >= MAX_TRIES) {
        await queue.answer(ids, null, error.message);
      }
      return 0;
    }
    return queue.answer(ids, logits);
  }

  private openTeacher(teacher: string | URL | Teacher): Teacher {
    const identity =
      this.options.teacherIdentity === "off"
        ? null
        : this.bundle.teacherIdentity;
    const opened =
      typeof teacher === "string" || teacher instanceof URL
        ? new HttpTeacher(teacher, {
            token: this.options.token,
            timeout: this.options.timeout,
            output: teacherOutput(this.manifest),
            classes: this.classes.length,
            identity,
            binary: this.options.binary,
          })
        : teacher;
    const reader = this.teacherReader;
    return reader === null ? opened : new TokenizedTeacher(opened, reader);
  }

  private withQueue(): TeacherQueue {
    if (this.queue === null) {
      throw new CascadeError(
        "Expected a cascade that was loaded with `queue`, a name. This one " +
          "has none.",
      );
    }
    return this.queue;
  }
}

/** Tokenizes texts, then asks the teacher about their token ids. */
class TokenizedTeacher implements Teacher {
  constructor(
    private readonly teacher: Teacher,
    private readonly reader: TextReader,
  ) {}

  logits(inputs: Inputs, context?: TeacherContext) {
    return this.teacher.logits(this.reader.readBatch(inputs), context);
  }
}

/** Not `score < threshold`: a NaN score has to be delegated. */
export function isDelegated(
  output: StudentOutput,
  point: OperatingPoint,
): boolean {
  if (point.name === DEFAULT) return output.delegate;
  return !(output.score >= thresholdOf(point, argmax(output.probabilities)));
}

/** The predicted class's threshold in float32, as Python rounds it. */
export function thresholdOf(point: OperatingPoint, label: number): number {
  const threshold = point.class_thresholds?.[label] ?? point.threshold;
  return Math.fround(
    Math.min(MAX_FLOAT32, Math.max(-MAX_FLOAT32, threshold)),
  );
}

function checkOptions(options: LoadOptions): void {
  const oneOf = (name: keyof LoadOptions, values: readonly string[]) => {
    const value = options[name];
    if (value !== undefined && !values.includes(value as string)) {
      throw new TypeError(
        `Expected \`${name}\` out of ${values.join(", ")}. Received: ${value}.`,
      );
    }
  };
  checkPolicy(options.onFailure ?? "answer", options.queue !== undefined);
  oneOf("runtime", ["litert", "onnx"]);
  oneOf("teacherIdentity", ["required", "off"]);
}

function checkPolicy(policy: OnFailure, hasQueue: boolean): void {
  if (!Object.hasOwn(SOURCES, policy)) {
    throw new TypeError(
      `Expected \`onFailure\` out of ${Object.keys(SOURCES).join(", ")}. ` +
        `Received: ${policy}.`,
    );
  }
  if (policy === "queue" && !hasQueue) {
    throw new TypeError(
      "Expected `queue`, a name to keep rows under, with " +
        '`onFailure: "queue"`. Received: none.',
    );
  }
}

async function readerOf(
  bundle: Bundle,
  spec: TextSpec | undefined,
): Promise<TextReader | null> {
  if (spec === undefined) return null;
  const content = await bundle.read(spec.file, spec.sha256);
  return TextReader.load(content, spec, new URL(spec.file, bundle.url).href);
}

function onnxEntry(bundle: Bundle) {
  const entry = bundle.manifest.onnx?.student;
  if (entry === undefined) {
    throw new BundleError(
      `The bundle at ${bundle.url} has no student.onnx. Export it with ` +
        '`onnx=True`, or load it with `runtime: "litert"`.',
    );
  }
  return entry;
}

async function openStudent(
  bundle: Bundle,
  options: LoadOptions,
  isOnnx: boolean,
): Promise<Student> {
  const { manifest } = bundle;
  const entry = isOnnx ? onnxEntry(bundle) : manifest.student;
  const content = await bundle.read(entry.file, entry.sha256);
  const own = manifest.student.input ?? manifest.input;
  const integers = hasIntegerInputs(own);
  // Those are of the TFLite file alone.
  const specs = isOnnx && integers ? manifest.input : own;
  const wasm = options.wasm ?? "wasm/";
  const where = new URL(entry.file, bundle.url).href;
  if (isOnnx) return OnnxStudent.load(content, specs, wasm, where);
  const student = await LiteRtStudent.load(
    content, specs, manifest.classes.length, wasm, where,
    manifest.versions?.["keras-cascade"] ?? "of an unknown version",
  );
  return integers ? new IntegerInputStudent(student, specs) : student;
}
