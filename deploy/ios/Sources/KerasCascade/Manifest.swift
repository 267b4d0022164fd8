import CryptoKit
import Foundation

/// The bundle cannot be used here.
public struct BundleError: Error, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}

/// An input of a model, the batch first; `nil` is any size.
public struct InputSpec: Decodable {
  public let name: String
  public let shape: [Int?]
  public let dtype: String
  public let range: [Double]?
  public let quantization: Quantization?

  /// Of integers in the place of the cascade's floats.
  public struct Quantization: Decodable {
    public let scale: Float
    public let zeroPoint: Float

    private enum CodingKeys: String, CodingKey {
      case scale
      case zeroPoint = "zero_point"
    }
  }

  /// The integers for a row: the nearest, halves to even.
  public func integers(_ row: [Float]) -> [Int] {
    let limits: ClosedRange<Float> = dtype == "int8" ? -128...127 : 0...255
    return row.map { value in
      var steps = value
      if let quantization {
        steps = value / quantization.scale + quantization.zeroPoint
      }
      let nearest = steps.rounded(.toNearestOrEven)
      return Int(min(max(nearest, limits.lowerBound), limits.upperBound))
    }
  }

  /// Number of values of one row; `nil` where a size is free.
  public var size: Int? {
    shape.dropFirst().reduce(1) { product, size in
      guard let product, let size else { return nil }
      return product * size
    }
  }

  /// Checks one row: finite numbers, not far outside of the calibration's range,
  /// as pixels from 0 to 255 are where 0 to 1 is expected.
  public func check(_ row: [Float]) throws {
    if let size, row.count != size {
      throw BundleError(
        "Expected \(size) numbers in input '\(name)'. Received: \(row.count).")
    }
    guard row.allSatisfy(\.isFinite) else {
      throw BundleError("Expected finite numbers in input '\(name)'.")
    }
    guard let range, range.count == 2 else { return }
    let margin = 4 * (range[1] - range[0])
    let isNear = { (value: Float) -> Bool in
      Double(value) >= range[0] - margin && Double(value) <= range[1] + margin
    }
    if let far = row.first(where: { !isNear($0) }) {
      throw BundleError(
        "Expected numbers in the range of the calibration, \(range[0]) to "
          + "\(range[1]), in input '\(name)'. Received: \(far).")
    }
  }
}

public struct OperatingPoint: Decodable {
  public let name: String
  /// With `classThresholds` the highest of them.
  public let threshold: Double
  /// One threshold for each class that the student predicts.
  public let classThresholds: [Double]?

  private enum CodingKeys: String, CodingKey {
    case name, threshold
    case classThresholds = "class_thresholds"
  }

  /// The threshold of the student's class, in the scores' own float32.
  public func float(_ label: Int) -> Float {
    let largest = Double(Float.greatestFiniteMagnitude)
    return Float(min(max(classThresholds?[label] ?? threshold, -largest), largest))
  }

  /// This point's threshold is part of the student's file.
  var isInFile: Bool { name == "default" }
}

/// The keys of `manifest.json` that a device uses.
///
/// The manifest's own hash is not checked; `read`'s `pin` is about all of it.
public struct Manifest: Decodable {
  public struct Text: Decodable {
    public let sha256: String
  }

  public struct Student: Decodable {
    public let file: String
    public let sha256: String
    public let input: [InputSpec]?
    public let text: Text?
  }

  public struct Teacher: Decodable {
    public let files: [String: String]
    public let output: String
    public let input: [InputSpec]?
    public let text: Text?
    public let onnx: OnnxReading?
  }

  /// How the output of an ONNX teacher becomes logits.
  public struct OnnxReading: Decodable {
    public let output: String
    public let outputs: String
    public let clip: Double
    public let inputs: [String: String]?
  }

  /// A teacher that the bundle does not hold.
  public struct RemoteTeacher: Decodable {
    public let identity: String?
    public let output: String?
  }

  private struct Version: Decodable {
    let format: String
    let version: Int
  }

  public let classes: [String]
  public let input: [InputSpec]
  public let student: Student
  public let teacher: Teacher?
  public let remoteTeacher: RemoteTeacher?
  public let operatingPoints: [OperatingPoint]

  private enum CodingKeys: String, CodingKey {
    case classes, input, student, teacher
    case remoteTeacher = "remote_teacher"
    case operatingPoints = "operating_points"
  }

  /// Reads the content of `manifest.json`.
  ///
  /// - Parameter pin: SHA-256 that it must have, in hex.
  public static func read(_ content: Data, pin: String? = nil) throws -> Manifest {
    if let pin, sha256(content) != pin {
      throw BundleError("manifest.json is not the one that was pinned.")
    }
    do {
      let version = try JSONDecoder().decode(Version.self, from: content)
      guard version.format == "keras_cascade.bundle" else {
        throw BundleError(
          "manifest.json is not valid at format: expected 'keras_cascade.bundle'.")
      }
      guard version.version == 1 else {
        throw BundleError(
          "manifest.json has version \(version.version); this app reads version "
            + "1. Update the app, or export the bundle again.")
      }
      let manifest = try JSONDecoder().decode(Manifest.self, from: content)
      try manifest.check()
      return manifest
    } catch let error as DecodingError {
      throw BundleError("manifest.json is not valid at \(place(of: error)): \(error)")
    }
  }

  /// Finds an operating point; without a name the default, or the first.
  public func operatingPoint(_ name: String? = nil) throws -> OperatingPoint {
    if let found = operatingPoints.first(where: { $0.name == name ?? "default" }) {
      return found
    }
    guard name == nil else {
      let names = operatingPoints.map(\.name).joined(separator: ", ")
      throw BundleError(
        "Expected an operating point out of \(names). Received: \(name!).")
    }
    return operatingPoints[0]
  }

  /// Checks the student's file against its hash.
  public func checkStudent(_ content: Data) throws {
    guard sha256(content) == student.sha256 else {
      throw BundleError(
        "'\(student.file)' is not the file that the manifest lists. Copy the "
          + "bundle again.")
    }
  }

  /// Name of the output with the teacher's logits.
  public var teacherOutput: String {
    teacher?.output ?? remoteTeacher?.output ?? "logits"
  }

  /// Identity of the bundle's teacher, as docs/identity.md defines it; `nil`
  /// where none is known.
  public var teacherIdentity: String? {
    guard let teacher else { return remoteTeacher?.identity }
    let names = classes.map(quoted).joined(separator: ",")
    let text = teacher.text.map { quoted($0.sha256) } ?? "null"
    let onnx = teacher.onnx.map { "\"onnx\":\(reading($0))," } ?? ""
    // JSON with sorted keys, no spaces and ASCII escapes.
    let json =
      "{\"classes\":[\(names)],\"files\":\(mapped(teacher.files)),\(onnx)"
      + "\"output\":\(quoted(teacher.output)),\"text\":\(text)}"
    return sha256(Data(json.utf8))
  }

  private func reading(_ onnx: OnnxReading) -> String {
    // Eight bytes in hex: Python writes decimals in another way.
    let clip = String(format: "%016llx", onnx.clip.bitPattern)
    let inputs = onnx.inputs.map { "\"inputs\":\(mapped($0))," } ?? ""
    return "{\"clip\":\"\(clip)\",\(inputs)\"output\":\(quoted(onnx.output)),"
      + "\"outputs\":\(quoted(onnx.outputs))}"
  }

  private func check() throws {
    func check(_ fits: Bool, _ key: String, _ expected: String) throws {
      if !fits {
        throw BundleError("manifest.json is not valid at \(key): expected \(expected).")
      }
    }
    try check(classes.count >= 2, "classes", "two names or more")
    try check(!input.isEmpty, "input", "one input or more")
    try check(!operatingPoints.isEmpty, "operating_points", "one or more")
    try check(
      operatingPoints.allSatisfy { $0.classThresholds.map(\.count) ?? classes.count == classes.count },
      "operating_points", "one class threshold per class or none")
    let parts = student.file.split(separator: "/", omittingEmptySubsequences: false)
    let isInside =
      !parts.contains { ["", ".", ".."].contains($0) }
      && !student.file.contains("\\") && !student.file.contains(":")
    let isHash =
      student.sha256.utf8.count == 64
      && student.sha256.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    try check(
      isInside && isHash, "student", "'file', a path inside the bundle, and its 'sha256'")
  }
}

/// The key of a manifest that cannot be decoded.
private func place(of error: DecodingError) -> String {
  switch error {
  case .keyNotFound(let key, let context):
    return (context.codingPath + [key]).map(\.stringValue).joined(separator: ".")
  case .typeMismatch(_, let context), .valueNotFound(_, let context),
    .dataCorrupted(let context):
    return context.codingPath.map(\.stringValue).joined(separator: ".")
  @unknown default:
    return "a key"
  }
}

/// Texts by name as JSON, sorted.
private func mapped(_ texts: [String: String]) -> String {
  let listed = texts.keys.sorted { Array($0.utf8).lexicographicallyPrecedes($1.utf8) }
    .map { "\(quoted($0)):\(quoted(texts[$0]!))" }
  return "{\(listed.joined(separator: ","))}"
}

func sha256(_ content: Data) -> String {
  SHA256.hash(data: content).map { String(format: "%02x", $0) }.joined()
}

/// A text as JSON in ASCII, as Python's `json` writes it.
func quoted(_ text: String) -> String {
  var json = "\""
  for unit in text.utf16 {
    switch unit {
    case 0x22: json += "\\\""
    case 0x5C: json += "\\\\"
    case 0x0A: json += "\\n"
    case 0x0D: json += "\\r"
    case 0x09: json += "\\t"
    case 0x08: json += "\\b"
    case 0x0C: json += "\\f"
    case 0x20...0x7E: json.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
    default: json += String(format: "\\u%04x", unit)
    }
  }
  return json + "\""
}
