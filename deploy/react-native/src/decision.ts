import { BundleError, TeacherError } from "./errors.js";
import type { Manifest, OperatingPoint } from "./manifest.js";

/** Policy for delegated rows that the teacher does not answer. */
export type OnFailure = "answer" | "abstain" | "raise" | "queue";
export type Source =
  | "edge" | "cloud" | "edge_fallback" | "abstained" | "queued";

/** The student's outputs for one row. */
export interface StudentAnswer {
  probabilities: Float32Array;
  score: number;
  delegate: boolean;
}

export interface Prediction {
  /** Index of the class; -1 where nobody answered. */
  label: number;
  /** Name of the class; `null` where nobody answered. */
  name: string | null;
  /** Of whoever answered; the student's where nobody did. */
  probabilities: Float32Array;
  score: number;
  source: Source;
  /** Why the teacher did not answer, or `null`. */
  teacherError: string | null;
  /** Id of a queued row, or `null`. */
  id: string | null;
}

/** Asks the teacher; throws a `TeacherError` where that fails. */
export type Ask = () => Promise<ArrayLike<number>>;
/** Keeps the row on disk until the teacher is there; returns its id. */
export type Enqueue = () => Promise<string>;

const DEFAULT = "default";
const LARGEST = 3.4028234663852886e38;
const SOURCES: Record<OnFailure, Source | null> = {
  answer: "edge_fallback",
  abstain: "abstained",
  raise: null,
  queue: "queued",
};

/** Finds an operating point; the default, or else the first. */
export function operatingPoint(
  manifest: Manifest,
  name?: string,
): OperatingPoint {
  const points = manifest.operating_points;
  const found = points.find((one) => one.name === (name ?? DEFAULT));
  if (found === undefined && name !== undefined) {
    throw new BundleError(
      "Expected an operating point out of " +
        `${points.map((one) => one.name).join(", ")}. Received: ${name}.`,
    );
  }
  return found ?? points[0]!;
}

/** The threshold of the student's class, in the scores' own float32. */
export function threshold(point: OperatingPoint, label = 0): number {
  const value = point.class_thresholds?.[label] ?? point.threshold;
  return Math.fround(Math.min(LARGEST, Math.max(-LARGEST, value)));
}

export function isDelegated(
  student: StudentAnswer,
  point: OperatingPoint,
): boolean {
  // This point's threshold is part of the student's file.
  if (point.name === DEFAULT) return student.delegate;
  // Not `score < threshold`: a NaN score has to be delegated.
  return !(student.score >= threshold(point, argmax(student.probabilities)));
}

/** Checks the name of a policy. */
export function checkPolicy(policy: string, hasQueue: boolean): void {
  if (!Object.hasOwn(SOURCES, policy)) {
    throw new TypeError(
      `Expected \`onFailure\` out of ${Object.keys(SOURCES).join(", ")}. ` +
        `Received: ${policy}.`,
    );
  }
  if (policy === "queue" && !hasQueue) {
    throw new TypeError('Expected `queue` with `onFailure: "queue"`.');
  }
}

/**
 * Answers one row.
 *
 * @throws TeacherError with the policy `"raise"`.
 */
export async function decide(
  student: StudentAnswer,
  point: OperatingPoint,
  classes: string[],
  onFailure: OnFailure,
  ask: Ask,
  enqueue: Enqueue | null = null,
): Promise<Prediction> {
  checkPolicy(onFailure, enqueue !== null);
  const made = (
    source: Source,
    probabilities: Float32Array,
    isAnswer = true,
  ): Prediction => {
    const label = isAnswer ? argmax(probabilities) : -1;
    const name = isAnswer ? classes[label]! : null;
    return {
      label, name, probabilities, score: student.score, source,
      teacherError: null, id: null,
    };
  };
  if (!isDelegated(student, point)) return made("edge", student.probabilities);
  try {
    return made("cloud", softmax(await ask()));
  } catch (error) {
    if (!(error instanceof TeacherError)) throw error;
    const source = SOURCES[onFailure];
    if (source === null) throw error;
    const id = source === "queued" ? await enqueue!() : null;
    const isAnswer = source === "edge_fallback";
    return {
      ...made(source, student.probabilities, isAnswer),
      teacherError: error.message,
      id,
    };
  }
}

function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) {
    if (values[i]! > values[best]!) best = i;
  }
  return best;
}

function softmax(logits: ArrayLike<number>): Float32Array {
  const values = Array.from(logits);
  const top = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return Float32Array.from(powers, (power) => power / sum);
}
