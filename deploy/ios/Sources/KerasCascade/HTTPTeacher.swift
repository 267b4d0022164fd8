import Foundation

/// A teacher behind Open Inference Protocol v2, with tensors as JSON. It is
/// asked once, without retries and circuit breaker.
public struct HTTPTeacher {
  let url: URL
  let manifest: Manifest
  let token: String?
  let timeout: TimeInterval
  let checksIdentity: Bool

  /// - Parameters:
  ///   - url: such as `https://teacher.example/v2/models/teacher`.
  ///   - token: sent as a bearer token.
  ///   - timeout: seconds without a byte of the answer.
  ///   - checksIdentity: answers must state the identity of the bundle's
  ///     teacher, as `keras-cascade serve` does. `false`: any teacher is asked.
  public init(
    url: URL, manifest: Manifest, token: String? = nil, timeout: TimeInterval = 10,
    checksIdentity: Bool = true
  ) {
    self.url = url
    self.manifest = manifest
    self.token = token
    self.timeout = timeout
    self.checksIdentity = checksIdentity
  }

  private var output: String { manifest.teacherOutput }

  /// Asks for the logits of one row.
  public func logits(_ row: [Float]) async throws -> [Float] {
    var request = URLRequest(
      url: url.appendingPathComponent("infer"), timeoutInterval: timeout)
    request.httpMethod = "POST"
    request.setValue("application/json", forHTTPHeaderField: "content-type")
    if let token {
      request.setValue("Bearer \(token)", forHTTPHeaderField: "authorization")
    }
    request.httpBody = try body(row)
    let content: Data
    let response: URLResponse
    do {
      (content, response) = try await URLSession.shared.data(for: request)
    } catch let error as URLError {
      throw TeacherError("The teacher at \(url) cannot be reached (\(error)).")
    }
    guard let response = response as? HTTPURLResponse else {
      throw TeacherError("The teacher at \(url) does not speak HTTP.")
    }
    return try read(
      status: response.statusCode,
      stated: response.value(forHTTPHeaderField: "x-cascade-teacher"), content)
  }

  func body(_ row: [Float]) throws -> Data {
    let spec = (manifest.teacher?.input ?? manifest.input)[0]
    let types = [
      "float32": "FP32", "float64": "FP64", "int8": "INT8", "int32": "INT32",
      "int64": "INT64", "uint8": "UINT8",
    ]
    guard let type = types[spec.dtype] else {
      throw TeacherError("The teacher's input is of type \(spec.dtype).")
    }
    let shape = spec.shape.dropFirst().map { ",\($0 ?? 1)" }.joined()
    let data = row.map { "\($0)" }.joined(separator: ",")
    return Data(
      ("{\"inputs\":[{\"name\":\(quoted(spec.name)),\"datatype\":\"\(type)\","
        + "\"shape\":[1\(shape)],\"data\":[\(data)]}],"
        + "\"outputs\":[{\"name\":\(quoted(output))}]}").utf8)
  }

  private struct Answer: Decodable {
    struct Output: Decodable {
      let name: String
      let shape: [Int]
      let data: [Float]
    }

    struct Parameters: Decodable {
      let teacher: String?
    }

    let parameters: Parameters?
    let outputs: [Output]
  }

  /// Reads an answer; apart, so that tests need no network.
  func read(status: Int, stated: String?, _ content: Data) throws -> [Float] {
    guard status == 200 else {
      let text = String(decoding: content.prefix(200), as: UTF8.self)
      throw TeacherError("The teacher at \(url) answered status \(status): \(text)")
    }
    let answer = try? JSONDecoder().decode(Answer.self, from: content)
    // An answer that cannot be decoded is no proof of another teacher.
    if checksIdentity, let expected = manifest.teacherIdentity,
      stated != nil || answer != nil
    {
      let identity = stated ?? answer?.parameters?.teacher
      guard identity == expected else {
        throw TeacherError(
          identity == nil
            ? "The teacher at \(url) does not state its identity. Serve the "
              + "bundle's teacher with `keras-cascade serve`, or pass "
              + "`checksIdentity: false`."
            : "The teacher at \(url) is not the bundle's. Serve this bundle's "
              + "teacher there.")
      }
    }
    let found = answer?.outputs.first { $0.name == output }
    let classes = manifest.classes.count
    guard let found, found.shape == [1, classes], found.data.count == classes,
      found.data.allSatisfy(\.isFinite)
    else {
      throw TeacherError(
        "The teacher's answer has no usable output '\(output)': expected finite "
          + "logits of one row.")
    }
    return found.data
  }
}
