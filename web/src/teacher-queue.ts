import { QueueError, reason } from "./errors";
import type { Manifest } from "./manifest";
import type { Inputs } from "./tensors";

/** A row that waits for the teacher. */
export interface QueuedRow {
  id: string;
  inputs: Inputs;
  probabilities: Float32Array;
  score: number;
  operatingPoint: string;
  /** Failed requests with this row alone. */
  tries: number;
}

/** A row that the teacher has answered, or that it will never answer. */
export interface AnsweredRow extends QueuedRow {
  logits: Float32Array | null;
  error: string | null;
}

interface Stored extends QueuedRow {
  number?: number;
}

const MAX_ROWS = 10_000;

/**
 * Rows in IndexedDB that wait for the teacher, and its late answers.
 *
 * A row is on disk before `put` returns. It moves to the answers in one
 * transaction, so it is answered once, whatever happens to the page.
 */
export class TeacherQueue {
  private constructor(
    readonly name: string,
    private readonly database: IDBDatabase,
    private readonly maxRows: number,
  ) {}

  /**
   * Opens the queue of a name, of this origin.
   *
   * @param name name of the database.
   * @param manifest of the bundle: a queue holds rows of the same inputs and
   *     classes.
   * @param maxRows rows and answers at most.
   * @throws QueueError the browser keeps no data, or it is another bundle's.
   */
  static async open(
    name: string,
    manifest: Manifest,
    maxRows = MAX_ROWS,
  ): Promise<TeacherQueue> {
    let database: IDBDatabase;
    try {
      const opening = indexedDB.open(`keras-cascade/${name}`, 1);
      opening.onupgradeneeded = () => {
        const made = opening.result;
        const rows = made.createObjectStore("rows", {
          keyPath: "number",
          autoIncrement: true,
        });
        rows.createIndex("id", "id", { unique: true });
        made.createObjectStore("answers", { keyPath: "id" });
        made.createObjectStore("meta");
      };
      database = await done(opening);
    } catch (error) {
      throw new QueueError(
        `The queue '${name}' cannot be opened (${reason(error)}). Does this ` +
          "browser keep data of the page (IndexedDB)?",
        { cause: error },
      );
    }
    // Another version of the page may want to change the database.
    database.onversionchange = () => database.close();
    const content = JSON.stringify([
      manifest.input.map(({ name, shape, dtype }) => [name, shape, dtype]),
      manifest.classes,
    ]);
    const transaction = database.transaction("meta", "readwrite");
    const meta = transaction.objectStore("meta");
    const before = await done(meta.get("content"));
    if (before === undefined) meta.put(content, "content");
    await finished(transaction);
    if (before !== undefined && before !== content) {
      database.close();
      throw new QueueError(
        `The queue '${name}' holds rows of a bundle with other inputs or ` +
          "classes. Send them with that bundle, or pass another `queue`.",
      );
    }
    return new TeacherQueue(name, database, maxRows);
  }

  /**
   * Stores rows, all or none.
   *
   * @returns their ids.
   * @throws QueueError the queue is full or cannot be written.
   */
  async put(rows: Omit<QueuedRow, "id" | "tries">[]): Promise<string[]> {
    const ids = rows.map(() => crypto.randomUUID());
    try {
      const transaction = this.writing();
      const waiting = transaction.objectStore("rows");
      const answers = transaction.objectStore("answers");
      const held = (await done(waiting.count())) + (await done(answers.count()));
      if (held + rows.length > this.maxRows) {
        transaction.abort();
        throw new QueueError(
          `The queue '${this.name}' is full: it holds ${held} of ` +
            `${this.maxRows} rows. Send them, and take the answers.`,
        );
      }
      rows.forEach((row, i) =>
        waiting.add({ ...row, id: ids[i]!, tries: 0 } satisfies Stored),
      );
      await finished(transaction);
    } catch (error) {
      if (error instanceof QueueError) throw error;
      throw new QueueError(
        `The queue '${this.name}' cannot be written (${reason(error)}).`,
        { cause: error },
      );
    }
    return ids;
  }

  /** The rows that wait, the oldest first. */
  async waiting(): Promise<QueuedRow[]> {
    const rows = this.database.transaction("rows").objectStore("rows");
    return done(rows.getAll());
  }

  /** Rows with an answer, or with the reason why there will be none. */
  async answers(): Promise<AnsweredRow[]> {
    const rows = this.database.transaction("answers").objectStore("answers");
    return done(rows.getAll());
  }

  /** Numbers of rows that wait, and of answers that nobody took. */
  async counts(): Promise<{ waiting: number; answered: number }> {
    const transaction = this.database.transaction(["rows", "answers"]);
    const [waiting, answered] = await Promise.all([
      done(transaction.objectStore("rows").count()),
      done(transaction.objectStore("answers").count()),
    ]);
    return { waiting, answered };
  }

  /** Moves rows to the answers. Rows that wait no longer are left out. */
  async answer(
    ids: string[],
    logits: Float32Array[] | null,
    error: string | null = null,
  ): Promise<number> {
    const transaction = this.writing();
    const rows = transaction.objectStore("rows");
    let moved = 0;
    for (const [i, id] of ids.entries()) {
      const row: Stored | undefined = await done(rows.index("id").get(id));
      if (row === undefined) continue;
      rows.delete(row.number!);
      transaction.objectStore("answers").put({
        ...row,
        logits: logits?.[i] ?? null,
        error,
      } satisfies AnsweredRow);
      moved++;
    }
    await finished(transaction);
    return moved;
  }

  /** Counts a failed request with one row; returns the number of them. */
  async failed(id: string): Promise<number> {
    const transaction = this.writing();
    const rows = transaction.objectStore("rows");
    const row: Stored | undefined = await done(rows.index("id").get(id));
    if (row !== undefined) rows.put({ ...row, tries: row.tries + 1 });
    await finished(transaction);
    return (row?.tries ?? 0) + 1;
  }

  /** Removes answers that were taken. */
  async forget(ids: string[]): Promise<void> {
    const transaction = this.writing();
    for (const id of ids) transaction.objectStore("answers").delete(id);
    await finished(transaction);
  }

  close(): void {
    this.database.close();
  }

  private writing(): IDBTransaction {
    return this.database.transaction(["rows", "answers"], "readwrite", {
      durability: "strict",
    });
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () =>
      reject(transaction.error ?? new Error("aborted"));
  });
}
