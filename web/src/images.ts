import { InputError } from "./errors";
import { imageScale } from "./inputs";
import type { InputSpec } from "./manifest";

/** What a browser can draw: an image, a canvas, a frame of a video. */
export type ImageSource =
  | HTMLImageElement | HTMLCanvasElement | HTMLVideoElement
  | ImageBitmap | OffscreenCanvas;

/**
 * Converts a picture to an example of an input of images.
 *
 * As Python's reader of image files: resized to height and width whatever its
 * proportions, on white where it is transparent, converted to the channels and
 * scaled to the manifest's values. The browser resizes with its own filter, so
 * values differ slightly from Python's where the size changes.
 *
 * @param source the picture.
 * @param spec the manifest's input.
 * @throws InputError the input takes no images.
 */
export function imageExample(
  source: ImageSource,
  spec: InputSpec,
): Float32Array | Uint8Array {
  const [, rows, columns, channels] = spec.shape;
  const scale = imageScale(spec);
  if (scale === null || ![1, 3, 4].includes(channels ?? 3)) {
    throw new InputError(
      `Expected an input of images. Received: input '${spec.name}' of shape ` +
        `${JSON.stringify(spec.shape)} in the range ` +
        `${JSON.stringify(spec.range)}.`,
    );
  }
  const width = columns ?? sizeOf(source)[0];
  const height = rows ?? sizeOf(source)[1];
  const pixels = resized(source, width, height, channels === 4);
  const depth = channels ?? 3;
  const bytes = new Uint8Array(width * height * depth);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b, a] = pixels.subarray(4 * i, 4 * i + 4);
    // ITU-R 601-2 with Pillow's integers.
    if (depth === 1) {
      bytes[i] = (r! * 19595 + g! * 38470 + b! * 7471 + 0x8000) >> 16;
    } else {
      bytes.set([r!, g!, b!, a!].slice(0, depth), depth * i);
    }
  }
  if (scale === "none") return bytes;
  return Float32Array.from(bytes, (byte) => {
    if (scale === "0-255") return byte;
    if (scale === "0-1") return Math.fround(byte / 255);
    return Math.fround(Math.fround(byte / 127.5) - 1);
  });
}

function resized(
  source: ImageSource,
  width: number,
  height: number,
  transparent: boolean,
): Uint8ClampedArray {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  if (!transparent) {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(halved(source, width, height), 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

/** Halves a large picture until less than twice the size is left. */
function halved(
  source: ImageSource,
  width: number,
  height: number,
): ImageSource {
  let [w, h] = sizeOf(source);
  let picture = source;
  while (w >= 2 * width && h >= 2 * height) {
    w = Math.ceil(w / 2);
    h = Math.ceil(h / 2);
    const canvas = document.createElement("canvas");
    canvas.width = w;
    canvas.height = h;
    canvas.getContext("2d")!.drawImage(picture, 0, 0, w, h);
    picture = canvas;
  }
  return picture;
}

function sizeOf(source: ImageSource): [number, number] {
  if (source instanceof HTMLImageElement) {
    return [source.naturalWidth, source.naturalHeight];
  }
  if (source instanceof HTMLVideoElement) {
    return [source.videoWidth, source.videoHeight];
  }
  return [source.width, source.height];
}
