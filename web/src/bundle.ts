import { BundleError, reason } from "./errors";
import { type Manifest, parseManifest, sha256, teacherIdentity } from "./manifest";

/** A bundle behind a URL, whose files are checked against its manifest. */
export class Bundle {
  private constructor(
    readonly url: string,
    readonly manifest: Manifest,
    /** SHA-256 of `manifest.json`, which pins the whole bundle. */
    readonly manifestSha256: string,
    /** Identity of the teacher; `null` without one. */
    readonly teacherIdentity: string | null,
  ) {}

  /**
   * Reads and checks `manifest.json`.
   *
   * @param url folder of the bundle, or its `manifest.json`; relative to the
   *     page.
   * @param pin SHA-256 that `manifest.json` must have, in hex.
   * @throws BundleError
   */
  static async load(url: string | URL, pin?: string): Promise<Bundle> {
    const base = globalThis.document?.baseURI;
    const folder = new URL(String(url).replace(/manifest\.json$/, ""), base);
    if (!folder.pathname.endsWith("/")) folder.pathname += "/";
    const where = new URL("manifest.json", folder).href;
    const raw = await download(where, "no-cache");
    const hash = await sha256(raw);
    if (pin !== undefined && hash !== pin.toLowerCase()) {
      throw new BundleError(
        `Expected the bundle whose manifest.json has the SHA-256 ` +
          `${pin.slice(0, 12)}.... Received: ${hash.slice(0, 12)}..., from ` +
          `${where}. Install the bundle that was pinned.`,
      );
    }
    const manifest = await parseManifest(raw, where);
    return new Bundle(
      folder.href, manifest, hash, await teacherIdentity(manifest),
    );
  }

  /**
   * Reads one file.
   *
   * @param name path in the bundle.
   * @param hash SHA-256 that the manifest has of it.
   * @throws BundleError it cannot be read, or has another hash.
   */
  async read(name: string, hash: string): Promise<Uint8Array> {
    const where = new URL(name, this.url).href;
    const content = await download(where, "default");
    if ((await sha256(content)) === hash) return content;
    // The browser's cache may hold the file of an earlier bundle.
    const fresh = await download(where, "reload");
    const found = await sha256(fresh);
    if (found !== hash) {
      throw new BundleError(
        `${where} does not have the hash of the manifest. Expected: ` +
          `${hash.slice(0, 12)}.... Received: ${found.slice(0, 12)}.... ` +
          "Export or copy the bundle again.",
      );
    }
    return fresh;
  }
}

async function download(
  where: string,
  cache: RequestCache,
): Promise<Uint8Array> {
  let response: Response;
  try {
    response = await fetch(where, { cache });
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new BundleError(
      `Expected a bundle's file at ${where}. Received no answer ` +
        `(${reason(error)}). Is the URL right, and may pages of ` +
        `${globalThis.location?.origin} read it (CORS)?`,
      { cause: error },
    );
  }
  throw new BundleError(
    `Expected a bundle's file at ${where}. Received: status ` +
      `${response.status}. Is this the folder that \`export\` wrote?`,
  );
}
