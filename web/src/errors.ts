/** Base of all errors that this package raises. */
export class CascadeError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A bundle cannot be used: missing, altered, or of another schema. */
export class BundleError extends CascadeError {}

/** Inputs do not fit the manifest. */
export class InputError extends CascadeError {}

/** The queue is full, of another bundle, or cannot be written. */
export class QueueError extends CascadeError {}

/** How a teacher failed. */
export interface Failure {
  /** Another attempt may succeed. */
  retryable?: boolean;
  /** The server rejected the request, and would reject it again. */
  refused?: boolean;
  /** The server rejected the inputs. */
  aboutInput?: boolean;
  /** The answer is another teacher's than the bundle's. */
  stranger?: boolean;
  /** No request was sent. */
  notAsked?: boolean;
  /** The answer is no logits of these rows. */
  invalidAnswer?: boolean;
  /** Seconds that the server asks to wait. */
  retryAfter?: number;
  cause?: unknown;
}

/** The teacher gave no valid answer. */
export class TeacherError extends CascadeError {
  readonly retryable: boolean;
  readonly refused: boolean;
  readonly aboutInput: boolean;
  readonly stranger: boolean;
  readonly notAsked: boolean;
  readonly invalidAnswer: boolean;
  readonly retryAfter: number;

  constructor(message: string, failure: Failure = {}) {
    super(message, { cause: failure.cause });
    this.retryable = failure.retryable ?? false;
    this.refused = failure.refused ?? false;
    this.aboutInput = failure.aboutInput ?? false;
    this.stranger = failure.stranger ?? false;
    this.notAsked = failure.notAsked ?? false;
    this.invalidAnswer = failure.invalidAnswer ?? false;
    this.retryAfter = failure.retryAfter ?? 0;
  }
}

/** Text of anything that was thrown. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
