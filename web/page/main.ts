/** The page that `keras-cascade serve --web` shows. */

import {
  EdgeCascade,
  type Example,
  imageExample,
  type OnFailure,
  type Prediction,
  type Source,
} from "../src/index";
import { imageScale } from "../src/inputs";
import { Drawing } from "./drawing";
import { byId, bytes, milliseconds, percent, shown } from "./elements";

const WHO: Record<Source, string> = {
  edge: "Answered by the student, in this page",
  cloud: "Answered by the teacher, on the server",
  edge_fallback: "Answered by the student, as the teacher did not answer",
  abstained: "No answer: the student is not sure, the teacher did not answer",
  queued: "Queued: the teacher is asked later",
  refused: "The teacher rejects this input",
};
const TOP = 3;

class Page {
  private edge!: EdgeCascade;
  private readonly totals = { count: 0, delegated: 0, bytes: 0 };
  private ask: () => Example = () => [];
  private asked = 0;
  private turn: Promise<unknown> = Promise.resolve();

  async start(): Promise<void> {
    await this.open();
    const { manifest } = this.edge;
    document.title = `${manifest.name} – cascade`;
    byId("name").textContent = manifest.name;
    byId("lead").textContent =
      `A student of ${bytes(manifest.student.bytes)} in this page answers what ` +
      `it is sure of, out of ${manifest.classes.length} classes. The rest goes ` +
      "to the teacher on the server.";
    byId("cost-note").textContent =
      `In ${manifest.costs.unit}; the teacher alone costs ` +
      `${shown(manifest.costs.teacher)} per input.`;
    this.fillSettings();
    this.showInput();
    await this.showQueue();
    const seconds = performance.now() / 1000;
    byId("state").textContent = `Ready after ${seconds.toFixed(1)} s.`;
    document.documentElement.dataset.ready = String(seconds);
  }

  /** Opens the bundle with the settings of the page. */
  private async open(): Promise<void> {
    const onFailure = byId<HTMLSelectElement>("policy").value as OnFailure;
    const token = byId<HTMLInputElement>("token").value.trim();
    const point = this.edge?.operatingPoint.name;
    const edge = await EdgeCascade.load("bundle/", {
      teacher: new URL("/v2/models/teacher", location.href),
      onFailure,
      operatingPoint: point,
      queue: "page",
      ...(token ? { token } : {}),
      wasm: "wasm/",
      retries: 1,
    });
    this.edge?.close();
    this.edge = edge;
  }

  private fillSettings(): void {
    const points = byId<HTMLSelectElement>("point");
    for (const name of this.edge.operatingPoints) {
      points.add(new Option(name, name));
    }
    points.value = this.edge.operatingPoint.name;
    points.addEventListener("change", () => {
      this.edge.use(points.value);
      if (this.totals.count) void this.answer();
    });
    const policies = byId<HTMLSelectElement>("policy");
    policies.addEventListener("change", () =>
      this.inTurn(async () => {
        this.edge.onFailure = policies.value as OnFailure;
        await this.showQueue();
      }),
    );
    byId("token").addEventListener("change", () =>
      this.inTurn(() => this.open()),
    );
    byId("send").addEventListener("click", () => this.inTurn(() => this.send()));
  }

  private showInput(): void {
    const specs = this.edge.manifest.input;
    const [first] = specs;
    if (specs.length === 1 && imageScale(first!) !== null) {
      const drawing = new Drawing(first!.shape[3] === 1, () => this.answer());
      this.ask = () => imageExample(drawing.canvas, first!);
      byId("picture").hidden = false;
      return;
    }
    const form = byId<HTMLFormElement>("words");
    const fields = specs.map((spec) => {
      const label = document.createElement("label");
      const area = document.createElement("textarea");
      const isText = spec.dtype === "string";
      area.name = spec.name;
      label.append(
        isText
          ? specs.length > 1 ? `Text: ${spec.name}` : "Text"
          : `Numbers of ${spec.name}, ${JSON.stringify(spec.shape.slice(1))}`,
        area,
      );
      form.append(label);
      return { spec, area, isText };
    });
    const button = document.createElement("button");
    button.className = "main";
    button.textContent = "Ask";
    form.append(button);
    form.hidden = false;
    this.ask = () =>
      Object.fromEntries(
        fields.map(({ spec, area, isText }) => [
          spec.name,
          isText ? area.value : area.value.split(/[\s,;]+/).filter(Boolean).map(Number),
        ]),
      );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.answer();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        void this.answer();
      }
    });
  }

  private answer(): Promise<void> {
    const number = ++this.asked;
    return this.inTurn(async () => {
      if (number !== this.asked) return; // a newer one waits
      const prediction = await this.edge.predict(this.ask());
      this.show(prediction);
      if (prediction.source === "queued") await this.showQueue();
    });
  }

  /** Runs one thing at a time, and shows what it throws. */
  private inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.turn.then(async () => {
      const error = byId("error");
      try {
        await work();
        error.textContent = "";
      } catch (caught) {
        error.textContent =
          caught instanceof Error ? caught.message : String(caught);
      }
    });
    this.turn = turn;
    return turn;
  }

  private show(prediction: Prediction): void {
    const { source, score, threshold, latency, bytesSent } = prediction;
    const label = byId("label");
    label.textContent = prediction.name ?? "No answer";
    label.classList.remove("muted");
    const who = byId("who");
    who.dataset.source = source;
    const cut = prediction.truncated ? " The text is cut: it is too long." : "";
    who.textContent = `${WHO[source]}.${cut}`;
    byId("details").hidden = false;
    const [low, high] = this.scoreRange(score, threshold);
    const place = (value: number) =>
      `${Math.min(100, Math.max(0, (100 * (value - low)) / (high - low)))}%`;
    const isSure = source === "edge";
    const bar = byId("score-bar");
    bar.style.width = place(score);
    bar.toggleAttribute("data-below", !isSure);
    byId("threshold-mark").style.left = place(threshold);
    byId("compared").textContent =
      `Score ${shown(score)}, ${isSure ? "at or above" : "below"} the ` +
      `threshold ${shown(threshold)}: ${isSure ? "kept" : "delegated"}.`;
    byId("student").textContent =
      `${prediction.student.name}, ` +
      percent(Math.max(...prediction.student.probabilities));
    byId("sent").textContent = bytes(bytesSent);
    byId("latency").textContent = milliseconds(
      latency.student, ...(isSure ? [] : [latency.teacher]),
    );
    this.showClasses(prediction.probabilities);
    const error = prediction.teacherError;
    if (error !== null) who.textContent += ` ${error}`;
    this.count(prediction);
  }

  private showClasses(probabilities: Float32Array): void {
    const order = Array.from(probabilities.keys())
      .sort((a, b) => probabilities[b]! - probabilities[a]!)
      .slice(0, TOP);
    byId("classes").replaceChildren(
      ...order.map((index) => {
        const row = document.createElement("tr");
        const name = document.createElement("th");
        name.scope = "row";
        name.textContent = this.edge.classes[index]!;
        const bar = document.createElement("div");
        bar.style.width = `${100 * probabilities[index]!}%`;
        row.append(name);
        row.insertCell().append(bar);
        row.insertCell().textContent = percent(probabilities[index]!);
        return row;
      }),
    );
  }

  /** Range that the score is drawn in: gates have ranges of their own. */
  private scoreRange(score: number, threshold: number): [number, number] {
    const { score_bins: bins } = (this.edge.manifest as never as {
      calibration?: { score_bins?: { edges: number[] } };
    }).calibration ?? {};
    const edges = bins?.edges ?? [0, 1];
    const low = Math.min(score, threshold, edges[0]!);
    const high = Math.max(score, threshold, edges[edges.length - 1]!);
    return low >= -0.01 && high <= 1.01 ? [0, 1] : [low, high];
  }

  private count({ source, bytesSent }: Prediction): void {
    const { totals } = this;
    totals.count += 1;
    totals.delegated += source === "edge" ? 0 : 1;
    totals.bytes += bytesSent;
    const share = totals.delegated / totals.count;
    const { student, teacher, network = 0 } = this.edge.manifest.costs;
    byId("count").textContent = String(totals.count);
    byId("share").textContent = percent(share);
    byId("bytes").textContent = bytes(totals.bytes);
    byId("cost").textContent = shown(student + share * (teacher + network));
  }

  private async showQueue(): Promise<void> {
    const { waiting } = await this.edge.queueStatus();
    byId("queue").hidden = !waiting && !byId("late").childElementCount &&
      byId<HTMLSelectElement>("policy").value !== "queue";
    byId("waiting").textContent =
      waiting === 1 ? "1 input waits." : `${waiting} inputs wait.`;
  }

  private async send(): Promise<void> {
    try {
      await this.edge.sendQueued();
    } finally {
      await this.edge.takeAnswers((answers) => {
        for (const one of answers) {
          const item = document.createElement("li");
          item.textContent = one.name === null
            ? `rejected: ${one.teacherError}`
            : `${one.name}, answered by the teacher`;
          byId("late").append(item);
        }
      });
      await this.showQueue();
    }
  }
}

new Page().start().catch((error: Error) => {
  byId("state").textContent = "The student cannot be loaded.";
  byId("error").textContent = error.message;
  document.documentElement.dataset.failed = error.message;
});
