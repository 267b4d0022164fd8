import Foundation

/// The teacher gave no valid answer.
public struct TeacherError: Error, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}

/// Policy for delegated rows that the teacher does not answer.
public enum OnFailure: String {
  case answer, abstain, raise, queue
}

/// Who answered, by the names of docs/failures.md.
public enum Source: String {
  case edge, cloud, abstained, queued
  case edgeFallback = "edge_fallback"
}

/// The student's outputs for one row.
public struct StudentAnswer {
  public let probabilities: [Float]
  public let score: Float
  public let delegate: Bool

  public init(probabilities: [Float], score: Float, delegate: Bool) {
    self.probabilities = probabilities
    self.score = score
    self.delegate = delegate
  }
}

/// One row's answer.
public struct Prediction {
  /// Index of the class; -1 where nobody answered.
  public let label: Int
  /// Name of the class; `nil` where nobody answered.
  public let name: String?
  /// Of whoever answered; the student's where nobody did.
  public let probabilities: [Float]
  public let score: Float
  public let source: Source
  /// Why the teacher did not answer, or `nil`.
  public var teacherError: String? = nil
  /// Id of a queued row, or `nil`.
  public var id: String? = nil
}

/// Decides who answers a row, at one operating point.
public struct Decision {
  let classes: [String]
  let point: OperatingPoint
  let onFailure: OnFailure

  public init(classes: [String], point: OperatingPoint, onFailure: OnFailure) {
    self.classes = classes
    self.point = point
    self.onFailure = onFailure
  }

  public func isDelegated(_ student: StudentAnswer) -> Bool {
    if point.isInFile { return student.delegate }
    // Not `score < threshold`: a NaN score has to be delegated.
    return !(student.score >= point.float(argMax(student.probabilities)))
  }

  /// Answers one row.
  ///
  /// - Parameters:
  ///   - ask: returns the teacher's logits, or throws a `TeacherError`.
  ///   - enqueue: keeps the row on disk and returns its id.
  /// - Throws: `TeacherError` with the policy `raise`.
  public func decide(
    _ student: StudentAnswer,
    ask: () async throws -> [Float],
    enqueue: (() throws -> String)? = nil
  ) async throws -> Prediction {
    if onFailure == .queue && enqueue == nil {
      throw BundleError("Expected a queue with the policy 'queue'.")
    }
    let own = student.probabilities
    guard isDelegated(student) else { return answer(own, student, .edge) }
    do {
      return answer(softmax(try await ask()), student, .cloud)
    } catch let error as TeacherError {
      var made: Prediction
      switch onFailure {
      case .answer: made = answer(own, student, .edgeFallback)
      case .abstain: made = nobody(student, .abstained)
      case .queue:
        made = nobody(student, .queued)
        made.id = try enqueue!()
      case .raise: throw error
      }
      made.teacherError = error.description
      return made
    }
  }

  private func answer(
    _ probabilities: [Float], _ student: StudentAnswer, _ source: Source
  ) -> Prediction {
    let label = argMax(probabilities)
    return Prediction(
      label: label, name: classes[label], probabilities: probabilities,
      score: student.score, source: source)
  }

  private func nobody(_ student: StudentAnswer, _ source: Source) -> Prediction {
    Prediction(
      label: -1, name: nil, probabilities: student.probabilities,
      score: student.score, source: source)
  }
}

/// Index of the greatest value, the first of equal ones.
private func argMax(_ probabilities: [Float]) -> Int {
  var label = 0
  for (i, value) in probabilities.enumerated() where value > probabilities[label] {
    label = i
  }
  return label
}

private func softmax(_ logits: [Float]) -> [Float] {
  let top = Double(logits.max() ?? 0)
  let powers = logits.map { exp(Double($0) - top) }
  let sum = powers.reduce(0, +)
  return powers.map { Float($0 / sum) }
}
