import { reason, TeacherError } from "./errors";
import type { Inputs } from "./tensors";
import {
  rowsOf,
  type Teacher,
  type TeacherAnswer,
  type TeacherContext,
  validateLogits,
} from "./teacher";
import { decodeV1, decodeV2, encodeV1, encodeV2 } from "./wire";

export const TIMEOUT = 10;
/** Requests hold at most so many rows. */
const MAX_ROWS = 256;
const RETRIED = [429, 502, 503, 504];
const ABOUT_INPUT = [400, 413, 415, 422];
const ADVICE: Record<number, string> = {
  401: " Pass `token`.",
  404: " Is the model's name in the URL right?",
  413: " Send fewer rows, or raise the server's limit.",
};

export interface HttpTeacherOptions {
  /** Sent as `Authorization: Bearer`. */
  token?: string;
  /** Seconds for one whole request. */
  timeout?: number;
  /** The model's output; the manifest's by default. */
  output: string;
  classes: number;
  /** Identity that the answers must state; `null` accepts any. */
  identity: string | null;
  /** Tensors as bytes or as JSON, with v2; `undefined` asks the server. */
  binary?: boolean;
}

/**
 * A teacher behind Open Inference Protocol v2 or TensorFlow Serving's REST
 * protocol, as `keras-cascade serve`, Triton, KServe and TensorFlow Serving
 * speak them.
 */
export class HttpTeacher implements Teacher {
  private readonly url: string;
  private protocol: 1 | 2 | undefined;
  private binary: boolean | undefined;

  /**
   * @param url `http(s)://HOST/v2/models/NAME`, `http(s)://HOST/v1/models/NAME`,
   *     or `http(s)://HOST:PORT`, whose protocol is detected; relative to the
   *     page.
   */
  constructor(
    url: string | URL,
    private readonly options: HttpTeacherOptions,
  ) {
    const parsed = new URL(String(url), globalThis.document?.baseURI);
    if (!["http:", "https:"].includes(parsed.protocol)) {
      throw new TypeError(
        "Expected the teacher's URL to begin with http:// or https://; a " +
          `browser has no gRPC. Received: '${url}'.`,
      );
    }
    if (options.token !== undefined && !/^[\x20-\x7e]+$/.test(options.token)) {
      throw new TypeError(
        "Expected `token` to be one line of ASCII characters. Received " +
          "something else; is there a line break in it?",
      );
    }
    this.url = parsed.href.replace(/\/+$/, "");
    this.binary = options.binary;
    const path = /\/(v[12])\/models\/[^/]+(\/versions\/[^/]+)?$/.exec(this.url);
    if (path) this.protocol = path[1] === "v1" ? 1 : 2;
  }

  async logits(
    inputs: Inputs,
    context?: TeacherContext,
  ): Promise<TeacherAnswer> {
    const rows = rowsOf(inputs);
    if (rows > MAX_ROWS) {
      throw new TypeError(`Expected at most ${MAX_ROWS} rows. Received: ${rows}.`);
    }
    const deadline = AbortSignal.timeout(this.seconds * 1000);
    const protocol = (this.protocol ??= await this.detected(deadline));
    const id = globalThis.crypto.randomUUID();
    const model = this.modelUrl;
    const { output, identity } = this.options;
    let request, url: string;
    if (protocol === 1) {
      request = encodeV1(inputs);
      url = `${model}:predict`;
    } else {
      this.binary ??= await this.offersBinary(deadline);
      request = encodeV2(inputs, output, id, this.binary);
      url = `${model}/infer`;
    }
    if (identity !== null) {
      // Headers of keras-cascade's own server; others' CORS may refuse them.
      request.headers["x-cascade-rows"] = String(rows + (context?.rows ?? 0));
      request.headers["x-request-timeout"] = String(this.seconds);
    }
    context?.sent(request.body.length);
    const { content, headers } = await this.exchange(
      url,
      { method: "POST", headers: request.headers, body: request.body as BodyInit },
      deadline,
    );
    const decode = protocol === 1 ? decodeV1 : decodeV2;
    const answer = decode(content, headers, output);
    if (answer.id !== null && answer.id !== id) {
      throw new TeacherError("The teacher answered another request.", {
        retryable: true,
      });
    }
    if (identity !== null) this.checkIdentity(answer.identity, identity);
    return {
      logits: validateLogits(answer.logits, rows, this.options.classes),
      bytesSent: request.body.length,
    };
  }

  private get seconds(): number {
    return this.options.timeout ?? TIMEOUT;
  }

  private get modelUrl(): string {
    if (/\/v[12]\/models\//.test(this.url)) return this.url;
    return `${this.url}/v${this.protocol}/models/teacher`;
  }

  private checkIdentity(stated: string | null, expected: string): void {
    if (stated === expected) return;
    if (stated === null) {
      throw new TeacherError(
        `Expected the teacher at ${this.url} to state its identity, ` +
          `${expected.slice(0, 12)}.... Received an answer without. Serve ` +
          "the bundle's teacher with `keras-cascade serve`, or pass " +
          '`teacherIdentity: "off"`.',
        { stranger: true },
      );
    }
    throw new TeacherError(
      `The teacher at ${this.url} is not the bundle's. Expected: the identity ` +
        `${expected.slice(0, 12)}... of the manifest. Received: ` +
        `${stated.slice(0, 12)}.... Serve this bundle's teacher there, or ` +
        "load the bundle of the teacher that is served.",
      { stranger: true },
    );
  }

  private async detected(deadline: AbortSignal): Promise<1 | 2> {
    try {
      await this.exchange(`${this.url}/v2/health/ready`, {}, deadline);
      return 2;
    } catch (error) {
      if (!(error instanceof TeacherError && error.refused)) throw error;
      return 1;
    }
  }

  private async offersBinary(deadline: AbortSignal): Promise<boolean> {
    const server = `${this.url.split("/v2/")[0]}/v2`;
    const { content } = await this.exchange(server, {}, deadline);
    try {
      const { extensions } = JSON.parse(new TextDecoder().decode(content));
      return extensions.includes("binary_tensor_data");
    } catch (error) {
      throw new TeacherError(
        `The server at ${server} does not say which 'extensions' of Open ` +
          "Inference Protocol v2 it has. Pass `binary: false`.",
        { cause: error },
      );
    }
  }

  private async exchange(
    url: string,
    request: RequestInit,
    deadline: AbortSignal,
  ): Promise<{ content: Uint8Array; headers: Headers }> {
    const headers = new Headers(request.headers);
    if (this.options.token !== undefined) {
      headers.set("authorization", `Bearer ${this.options.token}`);
    }
    let response: Response;
    let content: Uint8Array;
    try {
      response = await fetch(url, {
        ...request,
        headers,
        signal: deadline,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
      content = new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      throw await this.unreachable(url, error, deadline);
    }
    if (!response.ok) throw statusError(url, response, content);
    return { content, headers: response.headers };
  }

  /** Tells a server that refuses this page from one that does not answer. */
  private async unreachable(
    url: string,
    error: unknown,
    deadline: AbortSignal,
  ): Promise<TeacherError> {
    if (deadline.aborted) {
      return new TeacherError(
        `The teacher at ${url} gave no whole answer within ${this.seconds} s.`,
        { retryable: true, cause: error },
      );
    }
    const own = globalThis.location?.origin;
    if (own !== undefined && new URL(url).origin !== own) {
      if (location.protocol === "https:" && url.startsWith("http:")) {
        return new TeacherError(
          `The browser lets no page over https:// ask ${url}. Serve the ` +
            "teacher with TLS: `keras-cascade serve --tls-cert --tls-key`.",
          { refused: true, cause: error },
        );
      }
      try {
        // Without CORS a page sees nothing of the answer but that it came.
        await fetch(new URL("/", url), {
          mode: "no-cors", signal: deadline, cache: "no-store",
          credentials: "omit",
        });
        return new TeacherError(
          `The server at ${new URL(url).origin} answers, but the browser lets ` +
            `no page of ${own} read it (CORS). Start it with ` +
            `\`--cors-origin ${own}\`.`,
          { refused: true, cause: error },
        );
      } catch {
        // it does not answer
      }
    }
    return new TeacherError(
      `The teacher at ${url} cannot be reached (${reason(error)}).`,
      { retryable: true, cause: error },
    );
  }
}

function statusError(
  url: string,
  response: Response,
  content: Uint8Array,
): TeacherError {
  const { status } = response;
  let text = new TextDecoder().decode(content).trim();
  try {
    text = String(JSON.parse(text).error ?? text);
  } catch {
    // as it is
  }
  const seconds = Number(response.headers.get("retry-after") ?? 0);
  return new TeacherError(
    `The teacher at ${url} answered status ${status}: ${text.slice(0, 200)}` +
      (ADVICE[status] ?? ""),
    {
      retryable: RETRIED.includes(status),
      refused: 400 <= status && status < 500 && status !== 429,
      aboutInput: ABOUT_INPUT.includes(status),
      retryAfter: Number.isFinite(seconds) ? seconds : 0,
    },
  );
}
