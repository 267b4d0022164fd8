import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import test from "node:test";

import { decide, operatingPoint, threshold } from "../src/decision.js";
import { BundleError, TeacherError } from "../src/errors.js";
import {
  checkFile, checkRow, quantized, readManifest, teacherIdentity, teacherOutput,
} from "../src/manifest.js";
import { Student } from "../src/student.js";
import { Teacher } from "../src/teacher.js";

const VECTORS = JSON.parse(
  readFileSync(new URL("../../../vectors.json", import.meta.url), "utf8"),
);
const MANIFEST = readManifest(JSON.stringify(VECTORS.manifest));

for (const one of VECTORS.decisions) {
  test(`decides ${one.name}`, async () => {
    const { student, teacher, expected } = one;
    let asked = 0;
    const made = decide(
      {
        probabilities: Float32Array.from(student.probabilities),
        score: student.score ?? NaN,
        delegate: student.delegate !== 0,
      },
      operatingPoint(MANIFEST, one.operating_point),
      MANIFEST.classes,
      one.on_failure,
      async () => {
        asked++;
        if ("error" in teacher) throw new TeacherError(teacher.error);
        return teacher.logits;
      },
      async () => "id",
    );
    if (expected.raises !== undefined) {
      await assert.rejects(made, { name: "TeacherError", message: expected.raises });
      return;
    }
    const { source, label, name, teacherError, probabilities, id } = await made;
    assert.deepEqual(
      { source, label, name, error: teacherError },
      {
        source: expected.source, label: expected.label, name: expected.name,
        error: expected.error,
      },
    );
    assert.equal(id, source === "queued" ? "id" : null);
    assert.equal(asked, source === "edge" ? 0 : 1);
    expected.probabilities.forEach((value: number, i: number) => {
      assert.ok(Math.abs(probabilities[i]! - value) < 1e-6);
    });
  });
}

test("thresholds are float32", () => {
  for (const point of MANIFEST.operating_points) {
    const expected = [VECTORS.thresholds[point.name]].flat();
    expected.forEach((one, label) => {
      assert.equal(threshold(point, label), one);
    });
  }
});

test("the identity is Python's", () => {
  assert.equal(teacherIdentity(MANIFEST), VECTORS.identity);
});

for (const one of VECTORS.teachers) {
  test(`the identity and output of ${one.why}`, () => {
    const manifest = readManifest(JSON.stringify(one.manifest));
    assert.equal(teacherIdentity(manifest), one.identity);
    assert.equal(teacherOutput(manifest), one.output);
  });
}

for (const { why, message, manifest } of VECTORS.refused) {
  test(`refuses ${why}`, () => {
    assert.throws(() => readManifest(JSON.stringify(manifest)), (error) => {
      assert.ok(error instanceof BundleError);
      assert.ok(error.message.includes(message), error.message);
      return true;
    });
  });
}

test("refuses another manifest, file, operating point and policy", async () => {
  const text = JSON.stringify(VECTORS.manifest);
  assert.throws(() => readManifest(text, "0".repeat(64)), BundleError);
  assert.throws(() => readManifest("{"), BundleError);
  checkFile(new TextEncoder().encode("student"), MANIFEST.student);
  assert.throws(() => checkFile(new Uint8Array(1), MANIFEST.student), BundleError);
  assert.throws(() => operatingPoint(MANIFEST, "other"), BundleError);
  const row = { probabilities: new Float32Array(3), score: 0, delegate: true };
  const [point] = MANIFEST.operating_points;
  for (const policy of ["other", "queue"] as any[]) {
    await assert.rejects(
      decide(row, point!, MANIFEST.classes, policy, async () => []), TypeError,
    );
  }
});

for (const { row, error } of VECTORS.rows) {
  test(`checks a row: ${error}`, () => {
    const check = () =>
      checkRow(row.map((one: number | null) => one ?? NaN), MANIFEST.input[0]!);
    if (error === null) check();
    else assert.throws(check, { name: "RangeError", message: new RegExp(error) });
  });
}

for (const { dtype, quantization, values, integers } of VECTORS.quantizations) {
  test(`integers of ${dtype}, scale ${quantization.scale}`, () => {
    const spec = { name: "x", shape: [null, 9], dtype, range: null, quantization };
    assert.deepEqual(quantized(values, spec).map((one) => one + 0), integers);
  });
}

/** Asks a server that gives one answer; `received` is the request. */
async function asked(
  answer: { status: number; headers: Record<string, string>; body: string },
  options = {},
  manifest = MANIFEST,
) {
  const received: { request?: IncomingMessage; body?: any } = {};
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    received.request = request;
    received.body = JSON.parse(body);
    response.writeHead(answer.status, answer.headers).end(answer.body);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/v2/models/teacher`;
  const teacher = new Teacher(url, manifest, options);
  try {
    return { logits: await teacher.logits([0, 0.25, 0.5, 1]), received };
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

for (const one of VECTORS.answers) {
  test(`reads ${one.why}`, async () => {
    if (one.error === null) {
      assert.deepEqual((await asked(one)).logits, one.logits);
      return;
    }
    await assert.rejects(asked(one), (error) => {
      assert.ok(error instanceof TeacherError);
      assert.ok(error.message.includes(one.error), error.message);
      return true;
    });
  });
}

test("asks as docs/wire.md says, with a token", async () => {
  const { received } = await asked(VECTORS.answers[0], { token: "secret" });
  assert.equal(received.request!.url, "/v2/models/teacher/infer");
  assert.equal(received.request!.headers.authorization, "Bearer secret");
  assert.deepEqual(received.body, {
    inputs: [{
      name: "input", datatype: "FP32", shape: [1, 2, 2, 1],
      data: [0, 0.25, 0.5, 1],
    }],
    outputs: [{ name: "logits" }],
  });
});

test("a stranger is taken with identity off; nobody there is an error", async () => {
  const stranger = VECTORS.answers.find((one: any) => one.why === "a stranger");
  const { logits } = await asked(stranger, { identity: "off" });
  assert.deepEqual(logits, VECTORS.answers[0].logits);
  const nobody = new Teacher("http://127.0.0.1:1/v2/models/teacher", MANIFEST);
  await assert.rejects(nobody.logits([0, 0, 0, 0]), TeacherError);
});

test("any teacher is asked where no identity is known", async () => {
  const known = VECTORS.teachers.find((one: any) => one.identity === null);
  const manifest = readManifest(JSON.stringify(known.manifest));
  for (const answer of VECTORS.answers.slice(0, 3)) {
    assert.deepEqual((await asked(answer, {}, manifest)).logits, [3, -1, 0.5]);
  }
});

/** Outputs in an order of their own, as the library hands them out. */
function model(dataType: string, outputs: string[]): any {
  const all: Record<string, [string, number[], ArrayBufferView]> = {
    delegate: ["int32", [1], Int32Array.of(1)],
    score: ["float32", [1], Float32Array.of(0.25)],
    probabilities: ["float32", [1, 3], Float32Array.of(0.2, 0.5, 0.3)],
    bool: ["bool", [1], Uint8Array.of(1)],
  };
  return {
    inputs: [{ name: "serving_default_input:0", dataType, shape: [1, 2, 2, 1] }],
    outputs: outputs.map((name) => ({
      name: "StatefulPartitionedCall", dataType: all[name]![0], shape: all[name]![1],
    })),
    async run(inputs: ArrayBuffer[]) {
      assert.deepEqual([...new Float32Array(inputs[0]!)], [0, 0.25, 0.5, 1]);
      return outputs.map((name) => all[name]![2].buffer);
    },
  };
}

test("a student's outputs are told apart by type and size", async () => {
  for (const order of [
    ["delegate", "score", "probabilities"], ["probabilities", "delegate", "score"],
  ]) {
    const student = Student.of(model("float32", order), MANIFEST);
    const answer = await student.run([0, 0.25, 0.5, 1]);
    assert.deepEqual([...answer.probabilities], [...Float32Array.of(0.2, 0.5, 0.3)]);
    assert.deepEqual([answer.score, answer.delegate], [0.25, true]);
    await assert.rejects(student.run([1]), RangeError);
  }
  for (const [dataType, order] of [
    ["int8", ["delegate", "score", "probabilities"]],
    ["float32", ["bool", "score", "probabilities"]],
  ] as const) {
    assert.throws(() => Student.of(model(dataType, [...order]), MANIFEST), BundleError);
  }
});
