import { defineConfig } from "vite";

/** Modules of the package for the tests, which Node runs. */
export default defineConfig({
  build: {
    lib: {
      entry: "test/internals.ts",
      formats: ["es"],
      fileName: () => "internals.js",
    },
    minify: false,
    outDir: "dist-test",
  },
});
