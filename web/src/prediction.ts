/** Who answered an example. */
export type Source =
  | "edge" // kept: the student's answer
  | "cloud" // delegated: the teacher's answer
  | "edge_fallback" // delegated, but the student's answer, as asked for
  | "abstained" // delegated, and answered by nobody
  | "queued" // waits for the teacher
  | "refused"; // a queued row that the teacher rejects

/** Seconds of wall-clock time. */
export interface Latency {
  /** In the student and its gate. */
  student: number;
  /** Waiting for the teacher, retries included; 0 where it was not asked. */
  teacher: number;
  total: number;
}

/** Prediction of one example. */
export interface Prediction {
  /** Index of the class; -1 where nobody answered. */
  label: number;
  /** Name of the class; `null` where nobody answered. */
  name: string | null;
  /** Per class, from whoever answered; the student's where nobody did. */
  probabilities: Float32Array;
  /** The gate's score; higher = the student is surer. */
  score: number;
  /** Scores below it are delegated; of the class that the student predicts. */
  threshold: number;
  source: Source;
  /** The student's own label and name, whoever answered. */
  student: { label: number; name: string; probabilities: Float32Array };
  /** Why the teacher did not answer a delegated example, or `null`. */
  teacherError: string | null;
  operatingPoint: string;
  latency: Latency;
  /** Bytes of the requests' bodies for this example; 0 if kept. */
  bytesSent: number;
  /** Id of a queued row, or `null`. */
  id: string | null;
  /** True of a text that was longer than the student reads. */
  truncated: boolean;
}

/** Late answer to a queued row. */
export interface LateAnswer {
  id: string;
  label: number;
  name: string | null;
  probabilities: Float32Array;
  score: number;
  source: "cloud" | "refused";
  teacherError: string | null;
  operatingPoint: string;
}
