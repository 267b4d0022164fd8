import type { Inputs } from "./tensors";

/** What the student makes of one example. */
export interface StudentOutput {
  probabilities: Float32Array;
  score: number;
  delegate: boolean;
}

/** Runs a bundle's student with its gate, one example at a time. */
export interface Student {
  /** Shape of each input as the file has it; -1 is a free size. */
  readonly shapes: Record<string, number[]>;
  run(inputs: Inputs): Promise<StudentOutput>;
  close(): void;
}

/** Runs calls one after another: a model has one set of buffers. */
export class Turns {
  private last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }
}
