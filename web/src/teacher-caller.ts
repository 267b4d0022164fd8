import { TeacherError } from "./errors";
import type { Inputs } from "./tensors";
import {
  rowsOf,
  type Teacher,
  type TeacherContext,
  validateLogits,
} from "./teacher";

const FIRST_WAIT = 0.1;
const LONGEST_WAIT = 5;
/** Retries are at most a fifth of the calls, beyond the first 20. */
const BUDGET_SHARE = 0.2;
const BUDGET_BURST = 20;

export interface CallerOptions {
  /** Attempts after the first. Defaults to 2. */
  retries?: number;
  /** Failed attempts in a row that open the circuit. Defaults to 5. */
  failuresToOpen?: number;
  /** Seconds for which it stays open. Defaults to 10. */
  secondsOpen?: number;
  /** For tests. */
  clock?: Clock;
}

/** Time and chance, replaced in tests. */
export interface Clock {
  /** Seconds. */
  now(): number;
  sleep(seconds: number): Promise<void>;
  random(): number;
}

const CLOCK: Clock = {
  now: () => performance.now() / 1000,
  sleep: (seconds) =>
    new Promise((resolve) => setTimeout(resolve, seconds * 1000)),
  random: Math.random,
};

/** Calls a teacher with bounded retries and a circuit breaker. */
export class TeacherCaller {
  private readonly retries: number;
  private readonly failuresToOpen: number;
  private readonly secondsOpen: number;
  private readonly clock: Clock;
  private budget = BUDGET_BURST;
  private failures = 0;
  private openUntil = -Infinity;
  private trying = false;
  private lastFailure = "";

  constructor(
    private readonly teacher: Teacher,
    private readonly classes: number,
    options: CallerOptions = {},
  ) {
    this.retries = options.retries ?? 2;
    this.failuresToOpen = options.failuresToOpen ?? 5;
    this.secondsOpen = options.secondsOpen ?? 10;
    this.clock = options.clock ?? CLOCK;
  }

  /**
   * Asks for the logits of a batch.
   *
   * @throws TeacherError no valid answer after all attempts.
   */
  async logits(
    inputs: Inputs,
    context: TeacherContext,
  ): Promise<Float32Array[]> {
    this.budget = Math.min(BUDGET_BURST, this.budget + BUDGET_SHARE);
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.attempt(inputs, context);
      } catch (error) {
        const again =
          error instanceof TeacherError && error.retryable &&
          error.retryAfter <= LONGEST_WAIT && attempt < this.retries;
        if (!again || this.budget < 1 - 1e-9) throw error;
        this.budget -= 1;
        const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempt);
        const wait = this.clock.random() * longest; // full jitter
        await this.clock.sleep(Math.max(wait, error.retryAfter));
      }
    }
  }

  private async attempt(
    inputs: Inputs,
    context: TeacherContext,
  ): Promise<Float32Array[]> {
    const trial = this.enter();
    try {
      const { logits } = await this.teacher.logits(inputs, context);
      const valid = validateLogits(logits, rowsOf(inputs), this.classes);
      this.failures = 0;
      return valid;
    } catch (error) {
      if (error instanceof TeacherError && !error.refused) {
        this.failures += 1;
        this.lastFailure = error.message;
        if (trial || this.failures >= this.failuresToOpen) {
          this.openUntil = this.clock.now() + this.secondsOpen;
        }
      } else if (error instanceof TeacherError) {
        this.failures = 0; // it answers
      }
      throw error;
    } finally {
      if (trial) this.trying = false;
    }
  }

  /** True of the one attempt that decides whether the circuit closes. */
  private enter(): boolean {
    if (this.failures < this.failuresToOpen) return false;
    const seconds = this.openUntil - this.clock.now();
    if (seconds > 0 || this.trying) {
      throw new TeacherError(
        `The teacher is not asked for up to ${Math.max(0, Math.ceil(seconds))} ` +
          `s more, after ${this.failures} failures in a row. The last one: ` +
          this.lastFailure,
        { notAsked: true },
      );
    }
    this.trying = true;
    return true;
  }
}
