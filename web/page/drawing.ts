import { byId } from "./elements";

/** Step of the arrow keys, in pixels of the canvas. */
const STEP = 14;
const MOVES: Record<string, [number, number]> = {
  ArrowLeft: [-STEP, 0],
  ArrowRight: [STEP, 0],
  ArrowUp: [0, -STEP],
  ArrowDown: [0, STEP],
};

/** Picture that is drawn, uploaded or taken with the camera. */
export class Drawing {
  readonly canvas = byId<HTMLCanvasElement>("canvas");
  private readonly context = this.canvas.getContext("2d", {
    willReadFrequently: true,
  })!;
  private readonly pen = byId("pen");
  private readonly video = byId<HTMLVideoElement>("video");
  private x = this.canvas.width / 2;
  private y = this.canvas.height / 2;

  /**
   * @param lightInk light on dark, as pictures in grayscale often are.
   * @param changed called after each stroke and each picture.
   */
  constructor(
    private readonly lightInk: boolean,
    private readonly changed: () => void,
  ) {
    this.clear();
    this.onPointer();
    this.onKeys();
    byId("clear").addEventListener("click", () => this.clear());
    byId("file").addEventListener("change", (event) => {
      const input = event.target as HTMLInputElement;
      const [file] = input.files ?? [];
      if (file) void this.showFile(file);
      input.value = "";
    });
    byId("camera").addEventListener("click", () => void this.toggleCamera());
    byId("shoot").addEventListener("click", () => {
      this.show(this.video, this.video.videoWidth, this.video.videoHeight);
      this.stopCamera();
    });
  }

  private clear(): void {
    this.context.fillStyle = this.lightInk ? "black" : "white";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.strokeStyle = this.lightInk ? "white" : "black";
    this.context.lineWidth = 22;
    this.context.lineCap = this.context.lineJoin = "round";
  }

  private onPointer(): void {
    let drawing = false;
    const at = (event: PointerEvent): [number, number] => {
      const box = this.canvas.getBoundingClientRect();
      return [
        ((event.clientX - box.left) / box.width) * this.canvas.width,
        ((event.clientY - box.top) / box.height) * this.canvas.height,
      ];
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      drawing = true;
      this.canvas.setPointerCapture(event.pointerId);
      [this.x, this.y] = at(event);
      this.line(this.x, this.y);
      this.pen.hidden = true;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (drawing) this.line(...at(event));
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(kind, () => {
        if (drawing) this.changed();
        drawing = false;
      });
    }
  }

  private onKeys(): void {
    this.canvas.addEventListener("keydown", (event) => {
      const move = MOVES[event.key];
      if (event.key === "Enter") this.changed();
      else if (event.key === "Escape") this.clear();
      else if (move === undefined) return;
      else this.move(move, event.shiftKey);
      event.preventDefault();
    });
    this.canvas.addEventListener("blur", () => (this.pen.hidden = true));
  }

  private move([dx, dy]: [number, number], draws: boolean): void {
    const inside = (value: number, size: number) =>
      Math.min(size, Math.max(0, value));
    const x = inside(this.x + dx, this.canvas.width);
    const y = inside(this.y + dy, this.canvas.height);
    if (draws) this.line(x, y);
    [this.x, this.y] = [x, y];
    this.pen.hidden = false;
    this.pen.style.left = `${(100 * x) / this.canvas.width}%`;
    this.pen.style.top = `${(100 * y) / this.canvas.height}%`;
  }

  private line(x: number, y: number): void {
    this.context.beginPath();
    this.context.moveTo(this.x, this.y);
    this.context.lineTo(x, y);
    this.context.stroke();
    [this.x, this.y] = [x, y];
  }

  private async showFile(file: File): Promise<void> {
    try {
      const image = await createImageBitmap(file);
      this.show(image, image.width, image.height);
    } catch {
      byId("error").textContent =
        `Expected a picture. Received: ${file.name}, which this browser ` +
        "cannot read. Convert it, such as to PNG.";
    }
  }

  /** Draws a whole picture into the canvas, whatever its proportions. */
  private show(image: CanvasImageSource, width: number, height: number): void {
    if (!width || !height) return;
    this.context.fillStyle = "white"; // behind transparent parts
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    this.changed();
  }

  private async toggleCamera(): Promise<void> {
    if (this.video.srcObject !== null) {
      this.stopCamera();
      return;
    }
    try {
      this.video.srcObject = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment" },
      });
    } catch (error) {
      byId("error").textContent =
        `The camera cannot be used (${(error as Error).message}). A browser ` +
        "gives it to pages over https:// and of localhost only.";
      return;
    }
    await this.video.play();
    this.setCamera(true);
  }

  private stopCamera(): void {
    const stream = this.video.srcObject as MediaStream | null;
    for (const track of stream?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
    this.setCamera(false);
  }

  private setCamera(on: boolean): void {
    this.video.hidden = byId("shoot").hidden = !on;
    byId("camera").textContent = on ? "Stop the camera" : "Use the camera";
    if (on) byId("shoot").focus();
    else byId("camera").focus();
  }
}
