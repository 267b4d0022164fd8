export { isDelegated, thresholdOf } from "../src/edge-cascade";
export { TeacherError } from "../src/errors";
export { prepareExample } from "../src/inputs";
export { dequantized, quantized } from "../src/integer-inputs";
export { parseManifest, teacherIdentity, teacherOutput } from "../src/manifest";
export { StrictJson } from "../src/strict-json";
export { TeacherCaller } from "../src/teacher-caller";
export { Tokenizer } from "../src/tokenizer";
export { decodeV2, encodeV1, encodeV2 } from "../src/wire";
