import { TeacherError } from "./errors";
import { type Inputs, type Tensor } from "./tensors";

/** Header with the length of the JSON before binary tensors. */
export const JSON_LENGTH = "inference-header-content-length";
export const IDENTITY_HEADER = "x-cascade-teacher";

/** A request of one protocol. */
export interface WireRequest {
  headers: Record<string, string>;
  body: Uint8Array;
}

/** What an answer states. */
export interface WireAnswer {
  logits: unknown;
  id: string | null;
  identity: string | null;
}

const V2_TYPES: Record<string, string> = {
  bool: "BOOL", float32: "FP32", float64: "FP64", int8: "INT8", int16: "INT16",
  int32: "INT32", int64: "INT64", uint8: "UINT8", uint16: "UINT16",
  uint32: "UINT32", uint64: "UINT64", string: "BYTES",
};

/** Request of TensorFlow Serving's REST protocol. */
export function encodeV1(inputs: Inputs): WireRequest {
  const columns = Object.entries(inputs).map(
    ([name, tensor]) => [name, nested(tensor)] as const,
  );
  const rows = columns[0]![1] as unknown[];
  const instances =
    columns.length === 1
      ? rows
      : rows.map((_, row) =>
          Object.fromEntries(
            columns.map(([name, values]) => [name, (values as unknown[])[row]]),
          ),
        );
  return {
    headers: { "content-type": "application/json" },
    body: encoded({ instances }),
  };
}

/** Answer of TensorFlow Serving's REST protocol. */
export function decodeV1(
  content: Uint8Array,
  headers: Headers,
  output: string,
): WireAnswer {
  const { predictions } = decoded(content);
  const rows = Array.isArray(predictions) ? predictions : [];
  if (!rows.length || rows.some((row) => row === null)) throw noOutput(output);
  const logits = Array.isArray(rows[0]) ? rows : rows.map((row) => row[output]);
  if (logits.includes(undefined)) throw noOutput(output);
  return { logits, id: null, identity: headers.get(IDENTITY_HEADER) };
}

/** Request of Open Inference Protocol v2. */
export function encodeV2(
  inputs: Inputs,
  output: string,
  id: string,
  binary: boolean,
): WireRequest {
  const raw: Uint8Array[] = [];
  const tensors = Object.entries(inputs).map(([name, tensor]) => {
    const head = {
      name,
      shape: tensor.shape,
      datatype: V2_TYPES[tensor.dtype],
    };
    if (!binary) return { ...head, data: jsonValues(tensor) };
    const bytes = bytesOf(tensor);
    raw.push(bytes);
    return { ...head, parameters: { binary_data_size: bytes.length } };
  });
  const head = encoded({
    id,
    inputs: tensors,
    outputs: [{ name: output, parameters: { binary_data: binary } }],
  });
  if (!binary) {
    return { headers: { "content-type": "application/json" }, body: head };
  }
  return {
    headers: {
      "content-type": "application/octet-stream",
      [JSON_LENGTH]: String(head.length),
    },
    body: joined([head, ...raw]),
  };
}

/** Answer of Open Inference Protocol v2. */
export function decodeV2(
  content: Uint8Array,
  headers: Headers,
  output: string,
): WireAnswer {
  const stated = headers.get(JSON_LENGTH);
  const length = stated === null ? content.length : Number(stated);
  if (!Number.isInteger(length) || length < 0 || length > content.length) {
    throw noOutput(output);
  }
  const head = decoded(content.subarray(0, length));
  const outputs = Array.isArray(head.outputs) ? head.outputs : [];
  let start = length;
  for (const one of outputs) {
    const size = one?.parameters?.binary_data_size ?? 0;
    if (one?.name === output) {
      const [rows, width] = one.shape ?? [];
      const values =
        one.parameters?.binary_data_size === undefined
          ? (one.data ?? []).flat()
          : floats(content.subarray(start, start + size), size, one.datatype);
      if (one.shape?.length !== 2 || values.length !== rows * width) {
        throw noOutput(output);
      }
      const logits = Array.from({ length: rows }, (_, row) =>
        values.slice(row * width, (row + 1) * width),
      );
      return {
        logits,
        id: text(head.id),
        identity:
          headers.get(IDENTITY_HEADER) ?? text(head.parameters?.teacher),
      };
    }
    start += size;
  }
  throw noOutput(output);
}

function floats(raw: Uint8Array, size: number, datatype: unknown) {
  const copy = raw.slice().buffer; // aligned
  const big = new Uint8Array(new Uint16Array([1]).buffer)[0] === 0;
  if (raw.length !== size || big) throw noOutput("binary data");
  if (datatype === "FP32" && size % 4 === 0) return new Float32Array(copy);
  if (datatype === "FP64" && size % 8 === 0) return new Float64Array(copy);
  throw noOutput("binary data");
}

function bytesOf(tensor: Tensor): Uint8Array {
  if (!Array.isArray(tensor.data)) {
    const { buffer, byteOffset, byteLength } = tensor.data;
    return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
  }
  const parts = tensor.data.flatMap((one) => {
    const utf8 = new TextEncoder().encode(one);
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, utf8.length, true);
    return [length, utf8];
  });
  return joined(parts);
}

function joined(parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  let start = 0;
  for (const part of parts) {
    all.set(part, start);
    start += part.length;
  }
  return all;
}

/** Values in row-major order, as JSON has them. */
function jsonValues({ data, dtype }: Tensor): unknown[] {
  if (Array.isArray(data)) return data;
  const values = Array.from(data as ArrayLike<number | bigint>);
  if (dtype === "bool") return values.map(Boolean);
  // JSON's integers have no limit, but JavaScript writes none beyond 2^53.
  return values.map((one) => (typeof one === "bigint" ? safe(one) : one));
}

function safe(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw new TeacherError(
      `The whole number ${value} cannot be sent as JSON. Use a server of ` +
        "Open Inference Protocol v2 with binary tensors.",
      { refused: true, aboutInput: true },
    );
  }
  return number;
}

function nested(tensor: Tensor): unknown {
  const values = jsonValues(tensor);
  const cut = (shape: number[], part: unknown[]): unknown => {
    if (!shape.length) return part[0];
    const size = part.length / shape[0]!;
    return Array.from({ length: shape[0]! }, (_, row) =>
      cut(shape.slice(1), part.slice(row * size, (row + 1) * size)),
    );
  };
  return cut(tensor.shape, values);
}

function encoded(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function decoded(content: Uint8Array): any {
  try {
    const value = JSON.parse(new TextDecoder().decode(content));
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // said below
  }
  throw new TeacherError("The teacher's answer is no JSON object.", {
    invalidAnswer: true,
  });
}

function noOutput(output: string): TeacherError {
  return new TeacherError(
    `The teacher's answer has no usable output '${output}'.`,
    { invalidAnswer: true },
  );
}

function text(value: unknown): string | null {
  return typeof value === "string" && value ? value : null;
}
