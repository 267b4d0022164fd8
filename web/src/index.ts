export { Bundle } from "./bundle";
export { EdgeCascade, type LoadOptions, type OnFailure } from "./edge-cascade";
export {
  BundleError,
  CascadeError,
  InputError,
  QueueError,
  TeacherError,
} from "./errors";
export { imageExample, type ImageSource } from "./images";
export type { Example, Numbers } from "./inputs";
export type { InputSpec, Manifest, OperatingPoint } from "./manifest";
export type { LateAnswer, Latency, Prediction, Source } from "./prediction";
export type { Teacher, TeacherAnswer, TeacherContext } from "./teacher";
export type { Inputs, Tensor } from "./tensors";
