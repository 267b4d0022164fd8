import {
  checkPolicy, decide, type OnFailure, operatingPoint, type Prediction,
} from "./decision.js";
import { TeacherError } from "./errors.js";
import { checkFile, checkRow, type Manifest, readManifest } from "./manifest.js";
import { Student } from "./student.js";
import { Teacher, type TeacherOptions } from "./teacher.js";

export interface EdgeCascadeOptions extends TeacherOptions {
  /** URL such as `https://teacher.example/v2/models/teacher`. */
  teacher?: string;
  /** Defaults to `"answer"`. */
  onFailure?: OnFailure;
  /** Name of one of the bundle's. Defaults to `"default"`, or the first. */
  operatingPoint?: string;
  /**
   * Keeps a row on disk and returns its id, with `onFailure: "queue"`. Which
   * store is the app's choice; ask `teacher.logits` for its rows later.
   */
  queue?: (row: Float32Array) => Promise<string>;
  /** SHA-256 of `manifest.json`: pins one bundle. */
  sha256?: string;
  /** Of react-native-fast-tflite. Defaults to none, the CPU. */
  delegates?: Parameters<typeof Student.load>[2];
}

/** Runs a bundle: the student on this phone, the teacher anywhere. */
export class EdgeCascade {
  private constructor(
    readonly manifest: Manifest,
    readonly teacher: Teacher | null,
    private readonly student: Student,
    private readonly options: EdgeCascadeOptions,
  ) {}

  /**
   * Opens a bundle without its `teacher/`.
   *
   * @param folder its URL, `file://...`.
   */
  static async load(
    folder: string,
    options: EdgeCascadeOptions = {},
  ): Promise<EdgeCascade> {
    checkPolicy(options.onFailure ?? "answer", options.queue !== undefined);
    const text = await (await fetch(`${folder}/manifest.json`)).text();
    const manifest = readManifest(text, options.sha256);
    operatingPoint(manifest, options.operatingPoint);
    const url = `${folder}/${manifest.student.file}`;
    const content = await (await fetch(url)).arrayBuffer();
    checkFile(new Uint8Array(content), manifest.student);
    const student = await Student.load(url, manifest, options.delegates);
    const teacher =
      options.teacher === undefined
        ? null
        : new Teacher(options.teacher, manifest, options);
    return new EdgeCascade(manifest, teacher, student, options);
  }

  /**
   * Answers one row.
   *
   * @param row its numbers in row-major order, in the manifest's range.
   * @throws RangeError the row does not fit the manifest.
   * @throws TeacherError with `onFailure: "raise"`.
   */
  async predict(row: Float32Array): Promise<Prediction> {
    const { manifest, teacher, options } = this;
    const queue = options.queue;
    checkRow(row, manifest.input[0]!);
    return decide(
      await this.student.run(row),
      operatingPoint(manifest, options.operatingPoint),
      manifest.classes,
      options.onFailure ?? "answer",
      async () => {
        if (teacher === null) {
          throw new TeacherError("This cascade was loaded without a teacher.");
        }
        return teacher.logits(row);
      },
      queue === undefined ? null : () => queue(row),
    );
  }
}
