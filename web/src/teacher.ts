import { TeacherError } from "./errors";
import type { Inputs } from "./tensors";

/** Logits of a batch, and what the request for them took. */
export interface TeacherAnswer {
  /** One array of logits per row, in the order of the manifest's classes. */
  logits: ArrayLike<number>[];
  /** Bytes of the request's body; 0 of a teacher in the page. */
  bytesSent?: number;
}

/** Anything that answers a batch with logits. */
export interface Teacher {
  /**
   * Computes the logits of a batch.
   *
   * @param inputs tensor per input, the batch first.
   * @param context what the device reports to the teacher's server.
   * @throws TeacherError no valid answer.
   */
  logits(inputs: Inputs, context?: TeacherContext): Promise<TeacherAnswer>;
}

/** What a request reports, and what is reported back of one that fails. */
export interface TeacherContext {
  /** Rows that the device has answered since its last request. */
  rows: number;
  /** Called with the bytes of each body that is sent. */
  sent(bytes: number): void;
}

/** Number of rows of a batch. */
export function rowsOf(inputs: Inputs): number {
  return Object.values(inputs)[0]?.shape[0] ?? 0;
}

/**
 * Validates a teacher's answer.
 *
 * @throws TeacherError another number of rows or classes, NaN or infinity.
 */
export function validateLogits(
  logits: unknown,
  rows: number,
  classes: number,
): Float32Array[] {
  const isList = (one: unknown): one is ArrayLike<unknown> =>
    Array.isArray(one) || ArrayBuffer.isView(one);
  if (
    !isList(logits) || logits.length !== rows ||
    !Array.from(logits).every((row) => isList(row) && row.length === classes)
  ) {
    const first = isList(logits) ? logits[0] : undefined;
    const received = isList(logits)
      ? `${logits.length} rows, the first of ${isList(first) ? first.length : typeof first}`
      : typeof logits;
    throw new TeacherError(
      `Expected ${rows} rows of ${classes} logits from the teacher. ` +
        `Received: ${received}.`,
      { invalidAnswer: true },
    );
  }
  return Array.from(logits as ArrayLike<ArrayLike<unknown>>, (row) => {
    const numbers = Array.from(row);
    if (!numbers.every((one) => typeof one === "number")) {
      throw new TeacherError(
        "Expected the teacher to answer with numbers. Received something else.",
        { invalidAnswer: true },
      );
    }
    const values = Float32Array.from(numbers as number[]);
    if (!values.every(Number.isFinite)) {
      throw new TeacherError("The teacher answered NaN or infinity.", {
        invalidAnswer: true,
      });
    }
    return values;
  });
}
