import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { defineConfig } from "vite";

const TARGET = "../keras_cascade/serving/page";
const NAME = "litert_wasm_compat_internal";
const WASM = "node_modules/@litertjs/core/wasm";

/**
 * The page of `keras-cascade serve --web`, into the Python package: all of it
 * is served from there, WebAssembly too.
 */
export default defineConfig({
  root: "page",
  base: "./",
  publicDir: false,
  build: {
    outDir: `../${TARGET}`,
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    rolldownOptions: { external: ["onnxruntime-web/wasm"] },
  },
  plugins: [
    {
      name: "local-webassembly",
      closeBundle() {
        mkdirSync(`${TARGET}/wasm`, { recursive: true });
        copyFileSync(`${WASM}/${NAME}.js`, `${TARGET}/wasm/${NAME}.js`);
        // 9.3 MB, 2.8 MB compressed, which every browser accepts.
        const raw = readFileSync(`${WASM}/${NAME}.wasm`);
        writeFileSync(
          `${TARGET}/wasm/${NAME}.wasm.gz`,
          gzipSync(raw, { level: 9 }),
        );
        const { version } = JSON.parse(
          readFileSync("node_modules/@litertjs/core/package.json", "utf8"),
        );
        writeFileSync(
          `${TARGET}/wasm/README.txt`,
          `LiteRT.js ${version}, the npm package @litertjs/core, unmodified. ` +
            "Copyright Google LLC, Apache License 2.0.\n",
        );
      },
    },
  ],
});
