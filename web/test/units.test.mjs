import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import {
  decodeV2,
  dequantized,
  encodeV1,
  encodeV2,
  isDelegated,
  parseManifest,
  prepareExample,
  quantized,
  StrictJson,
  TeacherCaller,
  TeacherError,
  teacherIdentity,
  teacherOutput,
  thresholdOf,
} from "../dist-test/internals.js";

const INPUTS = {
  input: { dtype: "float32", shape: [1, 2], data: new Float32Array([1, 2]) },
};
/** Those of the code in other languages. */
const VECTORS = JSON.parse(
  readFileSync(new URL("../../deploy/vectors.json", import.meta.url), "utf8"),
);
const CONTEXT = { rows: 0, sent() {} };

/** A clock whose sleeps take no time, and whose chance is given. */
function clock(chance) {
  const made = { time: 0, slept: [] };
  made.now = () => made.time;
  made.random = () => chance;
  made.sleep = async (seconds) => {
    made.slept.push(seconds);
    made.time += seconds;
  };
  return made;
}

/** A teacher that fails as said, and answers after that. */
function scripted(...failures) {
  const made = { asked: 0 };
  made.logits = async () => {
    const failure = failures[made.asked++];
    if (failure) throw new TeacherError("no", failure);
    return { logits: [[1, 2]] };
  };
  return made;
}

test("the canonical text keeps the spelling of numbers", () => {
  const json = new StrictJson(
    '{"b": 1.0, "a": [1, -0.5e-3, "\\u00e9\\"\\/"], "\\ud83d\\ude00": null, "\\uffff": {}}',
  );
  // By Python: json.dumps(value, sort_keys=True, separators=(",", ":")) but
  // for -0.5e-3, which Python would spell -0.0005.
  assert.equal(
    json.canonicalWithout("none"),
    '{"a":[1,-0.5e-3,"\\u00e9\\"/"],"b":1.0,"\\uffff":{},"\\ud83d\\ude00":null}',
  );
  assert.equal(
    new StrictJson('{"sha256": "x", "a": 1}').canonicalWithout("sha256"),
    '{"a":1}',
  );
});

test("JSON that Python refuses is refused", () => {
  for (const text of [
    '{"a": 1, "a": 2}', '{"a": 1e999}', '{"a": 9007199254740994}',
    '{"a": NaN}', '{"a": 01}', '{"a": 1,}', '{"a": "\n"}', "[]", '{"a": 1} 2',
    "{'a': 1}", '{"a": .5}', '{"a": tru}', `{"a": ${"[".repeat(300)}`,
  ]) {
    assert.throws(() => new StrictJson(text), SyntaxError, text);
  }
});

test("a call is tried again with full jitter, and not beyond its retries", async () => {
  const time = clock(0.5);
  const teacher = scripted(
    { retryable: true }, { retryable: true, retryAfter: 2 }, { retryable: true },
  );
  const caller = new TeacherCaller(teacher, 2, { retries: 2, clock: time });
  await assert.rejects(caller.logits(INPUTS, CONTEXT), TeacherError);
  assert.equal(teacher.asked, 3);
  assert.deepEqual(time.slept, [0.05, 2]); // half of 0.1; what it asks for
  assert.deepEqual(await caller.logits(INPUTS, CONTEXT), [
    new Float32Array([1, 2]),
  ]);
});

test("a refused call, and one that would wait long, is not tried again", async () => {
  for (const failure of [{ refused: true }, { retryable: true, retryAfter: 9 }]) {
    const teacher = scripted(failure);
    const caller = new TeacherCaller(teacher, 2, { clock: clock(0) });
    await assert.rejects(caller.logits(INPUTS, CONTEXT), TeacherError);
    assert.equal(teacher.asked, 1);
  }
});

test("the circuit opens, and closes after one attempt", async () => {
  const time = clock(0);
  const teacher = scripted({}, {}, {});
  const caller = new TeacherCaller(teacher, 2, {
    failuresToOpen: 2, secondsOpen: 10, clock: time,
  });
  const failed = () => assert.rejects(caller.logits(INPUTS, CONTEXT));
  await failed();
  await failed();
  await failed(); // open
  assert.equal(teacher.asked, 2);
  time.time = 10;
  await failed(); // the attempt
  time.time = 19;
  await failed();
  assert.equal(teacher.asked, 3);
  time.time = 20;
  await caller.logits(INPUTS, CONTEXT);
  await caller.logits(INPUTS, CONTEXT);
  assert.equal(teacher.asked, 5);
});

test("answers that are no logits of the rows are refused", async () => {
  for (const logits of [[[1]], [[1, NaN]], [[1, "2"]], [], [[1, 2], [1, 2]], null]) {
    const caller = new TeacherCaller({ logits: async () => ({ logits }) }, 2);
    await assert.rejects(caller.logits(INPUTS, CONTEXT), { invalidAnswer: true });
  }
});

test("requests as docs/wire.md has them", () => {
  const text = (body) => new TextDecoder().decode(body);
  assert.equal(text(encodeV1(INPUTS).body), '{"instances":[[1,2]]}');
  const binary = encodeV2(INPUTS, "logits", "7", true);
  const length = Number(binary.headers["inference-header-content-length"]);
  assert.deepEqual(
    [...new Float32Array(binary.body.slice(length).buffer)], [1, 2],
  );
  const head = JSON.parse(text(binary.body.subarray(0, length)));
  assert.deepEqual(head.inputs, [
    { name: "input", shape: [1, 2], datatype: "FP32",
      parameters: { binary_data_size: 8 } },
  ]);
  const texts = { t: { dtype: "string", shape: [1], data: ["é"] } };
  const { body, headers } = encodeV2(texts, "logits", "7", true);
  const start = Number(headers["inference-header-content-length"]);
  assert.deepEqual([...body.subarray(start)], [2, 0, 0, 0, 0xc3, 0xa9]);
});

test("a truncated answer is refused", () => {
  const head = new TextEncoder().encode(JSON.stringify({
    outputs: [{ name: "logits", datatype: "FP32", shape: [1, 2],
      parameters: { binary_data_size: 8 } }],
  }));
  const whole = new Uint8Array(head.length + 8);
  whole.set(head);
  const headers = new Headers({
    "inference-header-content-length": String(head.length),
  });
  assert.deepEqual(decodeV2(whole, headers, "logits").logits.map((r) => [...r]), [[0, 0]]);
  for (const cut of [1, 8]) {
    const part = whole.subarray(0, whole.length - cut);
    assert.throws(() => decodeV2(part, headers, "logits"), TeacherError);
  }
});

test("an example may leave out the axes that Python lets it leave out", () => {
  const spec = { name: "x", shape: [null, 2, 2, 1], dtype: "float32", range: [0, 1] };
  for (const example of [
    [0, 1, 0, 1], [[0, 1], [0, 1]], [[[0], [1]], [[0], [1]]],
    [[[[0], [1]], [[0], [1]]]], new Float32Array([0, 1, 0, 1]),
  ]) {
    const { x } = prepareExample(example, [spec]);
    assert.deepEqual(x.shape, [1, 2, 2, 1]);
    assert.deepEqual([...x.data], [0, 1, 0, 1]);
  }
});

test("inputs are quantized as NumPy does", () => {
  const specs = [{
    name: "input", shape: [null, 2], dtype: "uint8", range: [0, 255],
    quantization: { scale: 2, zero_point: 127.5 },
  }];
  const run = (values) => quantized(
    { input: { dtype: "float32", shape: [1, values.length],
      data: new Float32Array(values) } },
    specs,
  ).input;
  // numpy.rint(x / 2 + 127.5), halves to even, clipped to 0 .. 255.
  const found = run([0, 2, 1, -1, -1000, 1000, 255, -255]);
  assert.equal(found.dtype, "uint8");
  assert.deepEqual([...found.data], [128, 128, 128, 127, 0, 255, 255, 0]);
  const every = Uint8Array.from({ length: 256 }, (_, index) => index);
  const floats = dequantized(every, specs);
  assert.equal(floats[255], 255);
  assert.deepEqual([...run(floats).data], [...every]);
  assert.deepEqual(
    dequantized(new Uint8ClampedArray([1]), specs), Float32Array.of(-253),
  );
  for (const other of [Float32Array.of(1), [1, 2], Int8Array.of(1)]) {
    assert.equal(dequantized(other, specs), other);
  }
  assert.equal(dequantized({ input: every }, specs).input[0], -255);
});

/** Reads a manifest of the vectors. */
function read(manifest) {
  return parseManifest(
    new TextEncoder().encode(JSON.stringify(manifest)), "manifest.json",
  );
}

test("operating points decide as deploy/vectors.json says", async () => {
  const manifest = await read(VECTORS.manifest);
  const points = Object.fromEntries(
    manifest.operating_points.map((one) => [one.name, one]),
  );
  for (const [name, expected] of Object.entries(VECTORS.thresholds)) {
    [expected].flat().forEach((one, label) => {
      assert.equal(thresholdOf(points[name], label), one);
    });
  }
  for (const { name, student, operating_point, expected } of VECTORS.decisions) {
    const output = {
      ...student, score: student.score ?? NaN, delegate: student.delegate !== 0,
    };
    assert.equal(
      isDelegated(output, points[operating_point]), expected.source !== "edge", name,
    );
  }
});

test("a teacher's identity and output are Python's", async () => {
  const own = await read(VECTORS.manifest);
  assert.equal(await teacherIdentity(own), VECTORS.identity);
  for (const { why, manifest, identity, output } of VECTORS.teachers) {
    const one = await read(manifest);
    assert.equal(await teacherIdentity(one), identity, why);
    assert.equal(teacherOutput(one), output, why);
  }
});

test("manifests that the others refuse are refused", async () => {
  for (const { why, manifest } of VECTORS.refused) {
    await assert.rejects(read(manifest), { name: "BundleError" }, why);
  }
});

test("a bundle of another task than one class per example is refused", async () => {
  const manifest = {
    format: "keras_cascade.bundle",
    version: 2,
    task: { class: "MultiLabel", activation: "sigmoid" },
  };
  const raw = new TextEncoder().encode(JSON.stringify(manifest));
  await assert.rejects(parseManifest(raw, "URL"), {
    name: "BundleError",
    message:
      'The bundle at URL is of the task "MultiLabel"; this package answers ' +
      "with one class per example. Run it with the Python package.",
  });
});
