import Foundation
import KerasCascade
import LiteRT

/// The student and its gate in LiteRT's `CompiledModel`, row by row. The file
/// is never resized. (`student_batch.tflite` is for machines that do resize.)
/// One thread at a time uses a `Student`.
public final class Student {
  private let model: CompiledModel
  private let inputs: [TensorBuffer]
  private let outputs: [TensorBuffer]
  private let index: [String: Int]
  private let spec: InputSpec
  private let cascadeSpec: InputSpec

  /// - Parameters:
  ///   - folder: of the bundle, without its `teacher/`.
  ///   - accelerators: other than the CPU: scores may round otherwise than
  ///     those that the threshold is for, docs/runtimes.md.
  public init(
    folder: URL, manifest: Manifest, accelerators: Set<Accelerator> = [.cpu]
  ) throws {
    let specs = manifest.student.input ?? manifest.input
    guard specs.count == 1, manifest.student.text == nil else {
      throw BundleError(
        "Expected a student with one input of numbers. This example has no "
          + "tokenizer.")
    }
    let content = try Data(
      contentsOf: folder.appendingPathComponent(manifest.student.file))
    try manifest.checkStudent(content)
    let options = try Options()
    try options.setHardwareAccelerators(accelerators)
    model = try CompiledModel(
      data: content, environment: Environment(), options: options)
    inputs = try model.createInputBuffers()
    outputs = try model.createOutputBuffers()
    var index: [String: Int] = [:]
    for i in 0..<outputs.count {
      index[try model.outputName(outputIndex: i)] = i
    }
    for name in ["probabilities", "score", "delegate"] where index[name] == nil {
      throw BundleError("The student has no output '\(name)'. Export it again.")
    }
    self.index = index
    spec = specs[0]
    cascadeSpec = manifest.input[0]
  }

  /// - Parameter row: numbers of one row, in row-major order.
  public func run(_ row: [Float]) throws -> StudentAnswer {
    try cascadeSpec.check(row)
    switch spec.dtype {
    case "float32": try inputs[0].write(row)
    case "int32": try inputs[0].write(row.map { Int32($0) })
    case "int8": try inputs[0].write(spec.integers(row).map { Int8($0) })
    case "uint8": try inputs[0].write(spec.integers(row).map { UInt8($0) })
    default:
      throw BundleError("Expected an input of 8 or 32 bits. Received: \(spec.dtype).")
    }
    try model.run(inputs: inputs, outputs: outputs)
    let probabilities: [Float] = try outputs[index["probabilities"]!].read()
    let score: [Float] = try outputs[index["score"]!].read()
    let delegate: [Int32] = try outputs[index["delegate"]!].read()
    return StudentAnswer(
      probabilities: probabilities, score: score[0], delegate: delegate[0] != 0)
  }
}

/// Answers rows: the student's answer where it is sure, else the teacher's.
public final class EdgeCascade {
  public let manifest: Manifest
  private let student: Student
  private let teacher: HTTPTeacher?
  private let decision: Decision
  private let queue: (([Float]) throws -> String)?

  /// Opens a bundle.
  ///
  /// - Parameters:
  ///   - folder: of the bundle, without its `teacher/`.
  ///   - teacher: URL such as `https://teacher.example/v2/models/teacher`.
  ///   - onFailure: what a row gets that the teacher does not answer.
  ///   - operatingPoint: name of one of the bundle's; `nil`: the default.
  ///   - queue: keeps a row on disk and returns its id, for `.queue`.
  ///   - pin: SHA-256 of `manifest.json`.
  public init(
    folder: URL,
    teacher: URL? = nil,
    token: String? = nil,
    onFailure: OnFailure = .answer,
    operatingPoint: String? = nil,
    queue: (([Float]) throws -> String)? = nil,
    accelerators: Set<Accelerator> = [.cpu],
    pin: String? = nil
  ) throws {
    let file = folder.appendingPathComponent("manifest.json")
    manifest = try Manifest.read(Data(contentsOf: file), pin: pin)
    decision = Decision(
      classes: manifest.classes,
      point: try manifest.operatingPoint(operatingPoint),
      onFailure: onFailure)
    student = try Student(
      folder: folder, manifest: manifest, accelerators: accelerators)
    let opened = manifest
    self.teacher = teacher.map {
      HTTPTeacher(url: $0, manifest: opened, token: token)
    }
    self.queue = queue
  }

  /// Answers one row, `row` in the manifest's range.
  public func predict(_ row: [Float]) async throws -> Prediction {
    let teacher = self.teacher
    return try await decision.decide(
      try student.run(row),
      ask: {
        guard let teacher else {
          throw TeacherError("This cascade has no teacher.")
        }
        return try await teacher.logits(row)
      },
      enqueue: queue.map { keep in { try keep(row) } })
  }
}
