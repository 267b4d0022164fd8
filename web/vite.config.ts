import { defineConfig } from "vite";

/** The library: its dependencies stay imports, which the user's build finds. */
export default defineConfig({
  build: {
    lib: {
      entry: "src/index.ts",
      formats: ["es"],
      fileName: () => "keras-cascade.js",
    },
    minify: false,
    outDir: "dist",
    rolldownOptions: {
      external: [
        "@litertjs/core",
        "onnxruntime-web/wasm",
      ],
    },
    sourcemap: false,
    target: "es2022",
  },
});
