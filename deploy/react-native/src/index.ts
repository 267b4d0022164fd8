// keras_cascade bundles in React Native.
//
// Compiled here (tsc, with the types of react-native-fast-tflite 3.0.1) and,
// but for `edge-cascade.ts`, run in Node against deploy/vectors.json, the
// student with a model of the test's: `npm test`. Not run on a phone.

export type {
  OnFailure, Prediction, Source, StudentAnswer,
} from "./decision.js";
export { EdgeCascade, type EdgeCascadeOptions } from "./edge-cascade.js";
export { BundleError, TeacherError } from "./errors.js";
export { type Manifest, readManifest } from "./manifest.js";
export { Student } from "./student.js";
export { Teacher, type TeacherOptions } from "./teacher.js";
