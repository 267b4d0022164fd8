import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

import { BundleError } from "./errors.js";

/** One input of a model, the batch first; `null` is any size. */
export interface InputSpec {
  name: string;
  shape: (number | null)[];
  dtype: string;
  range: [number, number] | null;
  /** Of integers in the place of the cascade's floats. */
  quantization?: { scale: number; zero_point: number };
}

export interface OperatingPoint {
  name: string;
  /** With `class_thresholds` the highest of them. */
  threshold: number;
  /** One threshold for each class that the student predicts. */
  class_thresholds?: number[] | null;
}

/** How the output of an ONNX teacher becomes logits. */
interface OnnxReading {
  output: string;
  outputs: string;
  clip: number;
  inputs?: Record<string, string>;
}

interface FileSpec {
  file: string;
  sha256: string;
}

/** The keys of `manifest.json` that a device uses. */
export interface Manifest {
  version: number;
  classes: string[];
  input: InputSpec[];
  student: FileSpec & { input?: InputSpec[]; text?: unknown };
  teacher?: {
    files: Record<string, string>;
    output: string;
    input?: InputSpec[];
    text?: { sha256: string };
    onnx?: OnnxReading;
  } | null;
  /** Where `teacher` is null: the teacher that the bundle does not hold. */
  remote_teacher?: { identity: string | null; output?: string };
  operating_points: OperatingPoint[];
}

const FORMAT = "keras_cascade.bundle";
const VERSION = 1;

/**
 * Reads `manifest.json`.
 *
 * @param text its content.
 * @param pin SHA-256 that it must have, in hex: `keras-cascade verify` prints
 *     it. The manifest's own hash is not checked here.
 * @throws BundleError
 */
export function readManifest(text: string, pin?: string): Manifest {
  if (pin !== undefined && hash(utf8ToBytes(text)) !== pin) {
    throw new BundleError("manifest.json is not the one that was pinned.");
  }
  let manifest: any;
  try {
    manifest = JSON.parse(text);
  } catch (error) {
    throw new BundleError(`Expected JSON in manifest.json. Received: ${error}.`);
  }
  const check = (fits: unknown, key: string, expected: string) => {
    if (!fits) {
      throw new BundleError(
        `manifest.json is not valid at ${key}: expected ${expected}.`,
      );
    }
  };
  check(manifest?.format === FORMAT, "format", `'${FORMAT}'`);
  if (manifest.version !== VERSION) {
    throw new BundleError(
      `manifest.json has version ${JSON.stringify(manifest.version)}; this ` +
        `app reads version ${VERSION}. Update the app, or export the bundle ` +
        "again.",
    );
  }
  const { classes, input, student, teacher, operating_points } = manifest;
  check(
    isList(classes, 2) && classes.every((one) => typeof one === "string"),
    "classes", "at least two names",
  );
  check(
    isList(input, 1) &&
      input.every((one: any) => isList(one?.shape, 1) && one.name && one.dtype),
    "input", "a list with 'name', 'shape' and 'dtype' each",
  );
  check(
    isPath(student?.file) && /^[0-9a-f]{64}$/.test(student?.sha256),
    "student", "'file', a path inside the bundle, and its 'sha256'",
  );
  check(
    teacher === undefined || teacher === null ||
      (typeof teacher.files === "object" && typeof teacher.output === "string"),
    "teacher", "'files' and 'output'",
  );
  check(
    isList(operating_points, 1) &&
      operating_points.every(
        (one: any) =>
          typeof one?.name === "string" && Number.isFinite(one.threshold) &&
          (one.class_thresholds == null ||
            (one.class_thresholds.length === classes.length &&
              one.class_thresholds.every(Number.isFinite))),
      ),
    "operating_points",
    "a list with 'name', 'threshold' and one class threshold per class or none",
  );
  return manifest;
}

/** Checks a file of the bundle against its hash in the manifest. */
export function checkFile(content: Uint8Array, spec: FileSpec): void {
  if (hash(content) !== spec.sha256) {
    throw new BundleError(
      `'${spec.file}' is not the file that the manifest lists. Copy the ` +
        "bundle again.",
    );
  }
}

/**
 * Checks one row: finite numbers, not far outside of the calibration's range,
 * as pixels from 0 to 255 are where 0 to 1 is expected.
 *
 * @throws RangeError
 */
export function checkRow(row: ArrayLike<number>, spec: InputSpec): void {
  const size = spec.shape.slice(1).reduce<number | null>(
    (product, one) => (product === null || one === null ? null : product * one),
    1,
  );
  if (size !== null && row.length !== size) {
    throw new RangeError(
      `Expected ${size} numbers in input '${spec.name}'. Received: ${row.length}.`,
    );
  }
  const [low, high] = spec.range ?? [-Infinity, Infinity];
  const margin = spec.range === null ? 0 : 4 * (high - low);
  for (let i = 0; i < row.length; i++) {
    const value = row[i]!;
    if (!Number.isFinite(value)) {
      throw new RangeError(`Expected finite numbers in input '${spec.name}'.`);
    }
    if (value < low - margin || value > high + margin) {
      throw new RangeError(
        `Expected numbers in the range of the calibration, ${low} to ${high}, ` +
          `in input '${spec.name}'. Received: ${value}.`,
      );
    }
  }
}

/** The integers that the student takes for numbers: the nearest, halves to even. */
export function quantized(row: ArrayLike<number>, spec: InputSpec): number[] {
  const { scale, zero_point } = spec.quantization!;
  const [low, high] = spec.dtype === "int8" ? [-128, 127] : [0, 255];
  return Array.from(row, (value) => {
    const steps = Math.fround(
      Math.fround(Math.fround(value) / Math.fround(scale)) + Math.fround(zero_point),
    );
    const floor = Math.floor(steps);
    const isUp = steps - floor > 0.5 || (steps - floor === 0.5 && floor % 2 !== 0);
    return Math.min(high!, Math.max(low!, isUp ? floor + 1 : floor));
  });
}

/**
 * Identity of the bundle's teacher, as docs/identity.md defines it; `null`
 * where none is known.
 */
export function teacherIdentity(manifest: Manifest): string | null {
  const { teacher, classes } = manifest;
  if (!teacher) return manifest.remote_teacher?.identity ?? null;
  const text = canonical({
    classes,
    files: teacher.files,
    output: teacher.output,
    text: teacher.text?.sha256 ?? null,
    ...(teacher.onnx === undefined
      ? {}
      : { onnx: { ...teacher.onnx, clip: float64Hex(teacher.onnx.clip) } }),
  });
  return hash(utf8ToBytes(text));
}

/** Name of the output with the teacher's logits. */
export function teacherOutput(manifest: Manifest): string {
  return (manifest.teacher ?? manifest.remote_teacher)?.output ?? "logits";
}

/** A number's eight bytes: Python writes decimals in another way. */
function float64Hex(value: number): string {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return bytesToHex(new Uint8Array(view.buffer));
}

/** JSON with sorted keys, no spaces and ASCII escapes; of texts and lists. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const keys = Object.keys(value).sort();
    const parts = keys.map(
      (key) => `${canonical(key)}:${canonical((value as any)[key])}`,
    );
    return `{${parts.join(",")}}`;
  }
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function hash(content: Uint8Array): string {
  return bytesToHex(sha256(content));
}

function isList(value: unknown, least: number): value is unknown[] {
  return Array.isArray(value) && value.length >= least;
}

function isPath(value: unknown): boolean {
  return (
    typeof value === "string" && !/^\/|\\|:/.test(value) &&
    !value.split("/").some((part) => ["", ".", ".."].includes(part))
  );
}
