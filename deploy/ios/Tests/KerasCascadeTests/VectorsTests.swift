import Foundation
import XCTest

@testable import KerasCascade

/// Runs deploy/vectors.json.
final class VectorsTests: XCTestCase {
  private var vectors: [String: Any] = [:]
  private var manifest: Manifest!

  override func setUpWithError() throws {
    var folder = URL(fileURLWithPath: #filePath)
    for _ in 0..<4 { folder.deleteLastPathComponent() }
    let content = try Data(contentsOf: folder.appendingPathComponent("vectors.json"))
    vectors = try XCTUnwrap(JSONSerialization.jsonObject(with: content) as? [String: Any])
    manifest = try Manifest.read(json(vectors["manifest"]))
  }

  private func json(_ value: Any?) throws -> Data {
    try JSONSerialization.data(withJSONObject: XCTUnwrap(value))
  }

  private func cases(_ key: String) throws -> [[String: Any]] {
    try XCTUnwrap(vectors[key] as? [[String: Any]])
  }

  private func floats(_ value: Any?) throws -> [Float] {
    try XCTUnwrap(value as? [NSNumber]).map(\.floatValue)
  }

  func testDecisions() async throws {
    for one in try cases("decisions") {
      let name = one["name"] as? String ?? ""
      let student = try XCTUnwrap(one["student"] as? [String: Any])
      let teacher = one["teacher"] as? [String: Any]
      let expected = try XCTUnwrap(one["expected"] as? [String: Any])
      let decision = Decision(
        classes: manifest.classes,
        point: try manifest.operatingPoint(one["operating_point"] as? String),
        onFailure: try XCTUnwrap(OnFailure(rawValue: one["on_failure"] as! String)))
      let answer = StudentAnswer(
        probabilities: try floats(student["probabilities"]),
        score: (student["score"] as? NSNumber)?.floatValue ?? .nan,
        delegate: student["delegate"] as? Int != 0)
      let made: Prediction
      do {
        made = try await decision.decide(
          answer,
          ask: {
            if let error = teacher?["error"] as? String { throw TeacherError(error) }
            return try self.floats(teacher?["logits"])
          },
          enqueue: { "id" })
        XCTAssertNil(expected["raises"], name)
      } catch let error as TeacherError {
        XCTAssertEqual(error.description, expected["raises"] as? String, name)
        continue
      }
      XCTAssertEqual(made.source.rawValue, expected["source"] as? String, name)
      XCTAssertEqual(made.label, expected["label"] as? Int, name)
      XCTAssertEqual(made.name, expected["name"] as? String, name)
      XCTAssertEqual(made.teacherError, expected["error"] as? String, name)
      for (a, b) in zip(made.probabilities, try floats(expected["probabilities"])) {
        XCTAssertEqual(a, b, accuracy: 1e-6, name)
      }
    }
  }

  func testIdentityAndThresholds() throws {
    XCTAssertEqual(manifest.teacherIdentity, vectors["identity"] as? String)
    let thresholds = try XCTUnwrap(vectors["thresholds"] as? [String: Any])
    for point in manifest.operatingPoints {
      let expected = thresholds[point.name]
      let values = expected as? [NSNumber] ?? [try XCTUnwrap(expected as? NSNumber)]
      for (label, value) in values.enumerated() {
        XCTAssertEqual(Double(point.float(label)), value.doubleValue)
      }
    }
    for one in try cases("teachers") {
      let manifest = try Manifest.read(json(one["manifest"]))
      XCTAssertEqual(manifest.teacherIdentity, one["identity"] as? String)
      XCTAssertEqual(manifest.teacherOutput, one["output"] as? String)
    }
  }

  func testRefusedManifests() throws {
    for one in try cases("refused") {
      XCTAssertThrowsError(try Manifest.read(json(one["manifest"]))) { error in
        let text = (error as? BundleError)?.description ?? ""
        XCTAssertTrue(text.contains(one["message"] as! String), text)
      }
    }
  }

  func testRows() throws {
    for one in try cases("rows") {
      let values = try XCTUnwrap(one["row"] as? [Any])
      let row = values.map { ($0 as? NSNumber)?.floatValue ?? .nan }
      guard let part = one["error"] as? String else {
        XCTAssertNoThrow(try manifest.input[0].check(row))
        continue
      }
      XCTAssertThrowsError(try manifest.input[0].check(row)) { error in
        XCTAssertTrue("\(error)".contains(part), "\(error)")
      }
    }
  }

  func testIntegers() throws {
    for one in try cases("quantizations") {
      let described: [String: Any] = [
        "name": "x", "shape": [9], "dtype": one["dtype"]!,
        "quantization": one["quantization"]!,
      ]
      let spec = try JSONDecoder().decode(InputSpec.self, from: json(described))
      XCTAssertEqual(spec.integers(try floats(one["values"])), one["integers"] as? [Int])
    }
  }

  func testAnswers() throws {
    let url = try XCTUnwrap(URL(string: "http://127.0.0.1/v2/models/teacher"))
    let teacher = HTTPTeacher(url: url, manifest: manifest)
    for one in try cases("answers") {
      let headers = one["headers"] as? [String: String]
      let read = {
        try teacher.read(
          status: one["status"] as! Int, stated: headers?["x-cascade-teacher"],
          Data((one["body"] as! String).utf8))
      }
      guard let part = one["error"] as? String else {
        XCTAssertEqual(try read(), try floats(one["logits"]))
        continue
      }
      XCTAssertThrowsError(try read()) { error in
        let text = (error as? TeacherError)?.description ?? ""
        XCTAssertTrue(text.contains(part), text)
      }
    }
  }
}
