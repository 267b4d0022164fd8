import { BundleError, reason } from "./errors";
import { canonicalText, type Json, type JsonObject, StrictJson } from "./strict-json";

/** One input of a model, the batch first; `null` is a free size. */
export interface InputSpec {
  name: string;
  shape: (number | null)[];
  dtype: string;
  range: [number, number] | null;
  scale?: "0-1" | "0-255" | "-1-1" | "none";
  /** The integer q stands for (q - zero_point) * scale. */
  quantization?: { scale: number; zero_point: number };
}

/** How a model's token ids are made of texts. */
export interface TextSpec {
  file: string;
  sha256: string;
  fields: string[];
  feeds: Record<string, "token_ids" | "segment_ids" | "padding_mask">;
  lengths: number[];
  pad: string;
  vectors: {
    text: string;
    second?: string;
    token_ids: number[];
    segment_ids?: number[];
  }[];
}

/** One operating point; further keys are what was measured and guaranteed. */
export interface OperatingPoint {
  name: string;
  /** With `class_thresholds` the highest of them. */
  threshold: number;
  /** One threshold for each class that the student predicts. */
  class_thresholds?: number[] | null;
  delegation_rate: number;
  accuracy: number;
  [key: string]: unknown;
}

/** How the output of an ONNX teacher becomes logits. */
export interface OnnxReading {
  output: string;
  outputs: "logits" | "probabilities";
  clip: number;
  inputs?: Record<string, string>;
}

/** A teacher that runs elsewhere. */
export interface RemoteTeacher {
  kind: string;
  url: string | null;
  /** What its server states; `null` where that is not known. */
  identity: string | null;
  output?: string;
}

/** A file of the bundle. */
export interface FileSpec {
  file: string;
  sha256: string;
  bytes: number;
}

/** The content of `manifest.json`, as far as a browser uses it. */
export interface Manifest {
  format: string;
  version: number;
  minor_version?: number;
  name: string;
  created: string;
  classes: string[];
  input: InputSpec[];
  student: FileSpec & {
    quantization: string;
    input?: InputSpec[];
    text?: TextSpec;
  };
  teacher?: {
    files: Record<string, string>;
    output: string;
    input?: InputSpec[];
    text?: TextSpec;
    /** Which output of an ONNX file is read, and how it becomes logits. */
    onnx?: OnnxReading;
  } | null;
  /** Where `teacher` is null: the teacher that the bundle does not hold. */
  remote_teacher?: RemoteTeacher;
  onnx?: { student?: FileSpec & { operating_point: OperatingPoint } };
  operating_points: OperatingPoint[];
  costs: { student: number; teacher: number; unit: string; network?: number };
  versions: Record<string, string>;
}

export const FORMAT = "keras_cascade.bundle";
export const VERSION = 1;
export const MAX_BYTES = 16 * 1024 * 1024;
const SEAL = "sha256";
const POINT = "'name', 'threshold' and one class threshold per class or none";
const DTYPES = [
  "bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64",
  "uint8", "uint16", "uint32", "uint64", "string",
];

/** Lower-case hexadecimal SHA-256, by WebCrypto. */
export async function sha256(content: Uint8Array | string): Promise<string> {
  if (globalThis.crypto?.subtle === undefined) {
    throw new BundleError(
      "Expected a page over https:// or of localhost, where the browser " +
        "has SHA-256 to check a bundle with. Received: " +
        `${globalThis.location?.origin ?? "another context"}.`,
    );
  }
  const bytes =
    typeof content === "string" ? new TextEncoder().encode(content) : content;
  const digest = await crypto.subtle.digest("SHA-256", bytes as BufferSource);
  return [...new Uint8Array(digest)]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/**
 * Reads and validates the bytes of a `manifest.json`.
 *
 * The checks are Python's: UTF-8, JSON without repeated keys or numbers that
 * are not finite, version, form, and the manifest's own hash. The hash is that
 * of the numbers as they are spelled in the file, so it is exact here too.
 *
 * @param raw bytes of the file.
 * @param where URL, for errors.
 * @throws BundleError
 */
export async function parseManifest(
  raw: Uint8Array,
  where: string,
): Promise<Manifest> {
  if (raw.length > MAX_BYTES) {
    throw new BundleError(
      `Expected a manifest of at most ${MAX_BYTES} bytes. Received: ` +
        `${raw.length}, from ${where}.`,
    );
  }
  let json: StrictJson;
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    json = new StrictJson(decoder.decode(raw));
  } catch (error) {
    throw new BundleError(
      `Expected a manifest.json at ${where}. Received something that is not ` +
        `valid JSON: ${reason(error)}.`,
    );
  }
  const manifest = json.value;
  checkForm(manifest, where);
  const seal = manifest[SEAL];
  if (seal !== undefined) {
    if (seal !== (await sha256(json.canonicalWithout(SEAL)))) {
      throw new BundleError(
        `The manifest at ${where} was altered since it was written. ` +
          `Expected: the content whose SHA-256 it has under '${SEAL}'. ` +
          "Export or copy the bundle again; after a change of your own, " +
          `remove '${SEAL}'.`,
      );
    }
  }
  return manifest as unknown as Manifest;
}

/**
 * Identity of a bundle's teacher, which a server states with its answers.
 *
 * @returns SHA-256 in hex; `null` where none is known.
 */
export async function teacherIdentity(
  manifest: Manifest,
): Promise<string | null> {
  const teacher = manifest.teacher;
  if (!teacher) return manifest.remote_teacher?.identity ?? null;
  return sha256(
    canonicalText({
      classes: manifest.classes,
      files: teacher.files,
      output: teacher.output,
      text: teacher.text?.sha256 ?? null,
      ...(teacher.onnx === undefined
        ? {}
        : { onnx: { ...teacher.onnx, clip: float64Hex(teacher.onnx.clip) } }),
    }),
  );
}

/** Name of the output with the teacher's logits. */
export function teacherOutput(manifest: Manifest): string {
  return (manifest.teacher ?? manifest.remote_teacher)?.output ?? "logits";
}

/** A number's eight bytes: Python writes decimals in another way. */
function float64Hex(value: number): string {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return view.getBigUint64(0).toString(16).padStart(16, "0");
}

function checkForm(manifest: JsonObject, where: string): void {
  const check = (fits: boolean, path: string, expected: string) => {
    if (!fits) {
      throw new BundleError(
        `${where} is not a valid manifest at ${path}: expected ${expected}.`,
      );
    }
  };
  if (isObject(manifest.task)) {
    throw new BundleError(
      `The bundle at ${where} is of the task ` +
        `${JSON.stringify(manifest.task.class)}; this package answers with ` +
        "one class per example. Run it with the Python package.",
    );
  }
  const version = manifest.version;
  if (typeof version === "number" && version > VERSION) {
    throw new BundleError(
      `The manifest at ${where} has version ${version}; this package reads ` +
        `version ${VERSION}. Use a newer keras-cascade, or export the bundle ` +
        "again.",
    );
  }
  check(manifest.format === FORMAT, "format", `'${FORMAT}'`);
  if (version !== VERSION) {
    throw new BundleError(
      `The manifest at ${where} has version ${JSON.stringify(version)}; this ` +
        `package reads version ${VERSION}. Export the bundle again.`,
    );
  }
  const classes = manifest.classes;
  check(
    isArrayOf(classes, isString) && classes.length >= 2,
    "classes", "at least two names",
  );
  const count = (classes as Json[]).length;
  checkInputs(manifest.input, "input", check);
  checkFile(manifest.student, "student", check);
  const student = manifest.student as JsonObject;
  if (student.input !== undefined) {
    checkInputs(student.input, "student.input", check);
  }
  checkText(student.text, "student.text", check);
  const teacher = manifest.teacher;
  if (teacher !== undefined && teacher !== null) {
    check(
      isObject(teacher) && isObject(teacher.files) &&
        Object.values(teacher.files).every(isHash) && isString(teacher.output),
      "teacher", "'files' with hashes, and 'output'",
    );
    const one = teacher as JsonObject;
    if (one.input !== undefined) checkInputs(one.input, "teacher.input", check);
    checkText(one.text, "teacher.text", check);
    check(
      one.onnx === undefined || isReading(one.onnx),
      "teacher.onnx", "'output', 'outputs' and 'clip'",
    );
  }
  const remote = manifest.remote_teacher;
  check(
    remote === undefined ||
      (isObject(remote) && isString(remote.kind) &&
        isTextOrNull(remote.url) && isTextOrNull(remote.identity) &&
        (remote.output === undefined || isString(remote.output))),
    "remote_teacher", "'kind', 'url' and 'identity'",
  );
  const onnx = manifest.onnx;
  if (isObject(onnx) && onnx.student !== undefined) {
    checkFile(onnx.student, "onnx.student", check);
    const one = onnx.student as JsonObject;
    check(isPoint(one.operating_point, count),
      "onnx.student.operating_point", POINT);
  }
  const points = manifest.operating_points;
  check(
    isArrayOf(points, (one) => isPoint(one, count)) &&
      points.length > 0,
    "operating_points", `a list with ${POINT} each`,
  );
  const costs = manifest.costs;
  check(
    isObject(costs) && typeof costs.student === "number" &&
      typeof costs.teacher === "number",
    "costs", "'student' and 'teacher'",
  );
}

type Check = (fits: boolean, path: string, expected: string) => void;

function checkInputs(inputs: Json | undefined, path: string, check: Check) {
  const fits = (one: Json) =>
    isObject(one) && isString(one.name) &&
    isArrayOf(one.shape, isSize) && one.shape.length > 0 &&
    DTYPES.includes(one.dtype as string) &&
    (one.range === null ||
      (isArrayOf(one.range, isNumber) && one.range.length === 2)) &&
    (one.quantization === undefined ||
      (isObject(one.quantization) &&
        ["int8", "uint8"].includes(one.dtype as string) &&
        isNumber(one.quantization.scale) && one.quantization.scale > 0 &&
        isNumber(one.quantization.zero_point)));
  check(
    isArrayOf(inputs, fits) && inputs.length > 0,
    path, "a list with 'name', 'shape', 'dtype' and 'range' each",
  );
}

function checkFile(file: Json | undefined, path: string, check: Check) {
  check(
    isObject(file) && isPath(file.file) && isHash(file.sha256),
    path, "'file', a path inside the bundle, and its 'sha256'",
  );
}

function checkText(text: Json | undefined, path: string, check: Check) {
  if (text === undefined) return;
  checkFile(text, path, check);
  const one = text as JsonObject;
  const feeds = ["token_ids", "segment_ids", "padding_mask"];
  check(
    isArrayOf(one.fields, isString) && [1, 2].includes(one.fields.length) &&
      isObject(one.feeds) &&
      Object.values(one.feeds).every((kind) => feeds.includes(kind as string)) &&
      isArrayOf(one.lengths, isNumber) && one.lengths.length > 0 &&
      isString(one.pad) && isArrayOf(one.vectors, isObject),
    path, "'fields', 'feeds', 'lengths', 'pad' and 'vectors'",
  );
}

/** True of a path that stays inside the bundle. */
function isPath(value: Json | undefined): boolean {
  return (
    isString(value) && value !== "" && !/^\/|\\|:|[?#%]/.test(value) &&
    !value.split("/").some((part) => ["", ".", ".."].includes(part))
  );
}

function isString(value: Json | undefined): value is string {
  return typeof value === "string";
}

function isNumber(value: Json | undefined): value is number {
  return typeof value === "number";
}

function isSize(value: Json | undefined): boolean {
  return value === null || (Number.isInteger(value) && (value as number) >= 1);
}

function isHash(value: Json | undefined): boolean {
  return isString(value) && /^[0-9a-f]{64}$/.test(value);
}

function isPoint(value: Json | undefined, classes: number): boolean {
  if (!isObject(value)) return false;
  const perClass = value.class_thresholds ?? null;
  return (
    isString(value.name) && isNumber(value.threshold) &&
    (perClass === null ||
      (isArrayOf(perClass, isNumber) && perClass.length === classes))
  );
}

function isReading(value: Json): boolean {
  return (
    isObject(value) && isString(value.output) && isString(value.outputs) &&
    isNumber(value.clip) &&
    (value.inputs === undefined ||
      (isObject(value.inputs) && Object.values(value.inputs).every(isString)))
  );
}

function isTextOrNull(value: Json | undefined): boolean {
  return value === null || isString(value);
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isArrayOf(
  value: Json | undefined,
  fits: (one: Json) => boolean,
): value is Json[] {
  return Array.isArray(value) && value.every(fits);
}
