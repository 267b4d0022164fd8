// Runs a bundle's student and gate on iOS.
//
// CocoaPods: pod 'TensorFlowLiteSwift'
// Resources: the bundle's student.tflite, and manifest.json for the class
// names.
//
// Neither compiled nor run where it was written.

import Foundation
import TensorFlowLite

/// One example's answer. `delegate`: ask the teacher, the student is unsure.
struct StudentAnswer {
  let probabilities: [Float]
  let score: Float
  let delegate: Bool
}

/// The student and its gate. An interpreter is not thread-safe: make one
/// per thread.
final class StudentCascade {
  private let runner: SignatureRunner
  private let input: String

  /// - Parameters:
  ///   - path: of student.tflite.
  ///   - input: the input's name in the manifest.
  init(path: String, input: String = "input") throws {
    let interpreter = try Interpreter(modelPath: path)
    runner = try interpreter.signatureRunner(with: "serving_default")
    self.input = input
  }

  /// - Parameter example: the values of one example, row by row, as the
  ///   manifest's `input` shapes them.
  func predict(_ example: [Float]) throws -> StudentAnswer {
    try runner.allocateTensors()
    try runner.copy(
      example.withUnsafeBufferPointer { Data(buffer: $0) }, toInputNamed: input)
    try runner.invoke()
    return StudentAnswer(
      probabilities: try values(of: "probabilities"),
      score: try values(of: "score")[0],
      delegate: try runner.output(named: "delegate").data.first != 0)
  }

  private func values(of output: String) throws -> [Float] {
    let data = try runner.output(named: output).data
    return data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
  }
}
