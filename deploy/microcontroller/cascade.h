// Decides who answers a row: the student, the teacher or nobody.
//
// C++17 without allocation, exceptions or a platform, so that it runs on any
// board. Compiled and run here: with g++, against deploy/vectors.json
// (`pytest tests/deploy/test_microcontroller.py`).

#ifndef KERAS_CASCADE_CASCADE_H_
#define KERAS_CASCADE_CASCADE_H_

#include <cmath>
#include <cstring>

namespace keras_cascade {

/// Who answered, with the names of docs/failures.md.
enum class Source { kEdge, kCloud, kEdgeFallback, kAbstained, kQueued };

/// Policy for delegated rows that the teacher does not answer.
enum class OnFailure { kAnswer, kAbstain, kRaise, kQueue };

inline const char* Name(Source source) {
  switch (source) {
    case Source::kEdge: return "edge";
    case Source::kCloud: return "cloud";
    case Source::kEdgeFallback: return "edge_fallback";
    case Source::kAbstained: return "abstained";
    case Source::kQueued: return "queued";
  }
  return "";
}

/// Reads a policy's name; false of another one.
inline bool ReadOnFailure(const char* name, OnFailure* policy) {
  const struct {
    const char* name;
    OnFailure policy;
  } kAll[] = {{"answer", OnFailure::kAnswer},
              {"abstain", OnFailure::kAbstain},
              {"raise", OnFailure::kRaise},
              {"queue", OnFailure::kQueue}};
  for (const auto& one : kAll) {
    if (std::strcmp(one.name, name) == 0) {
      *policy = one.policy;
      return true;
    }
  }
  return false;
}

/// An operating point of the manifest. The threshold of the one that is called
/// "default" is in the student's file, whose output `delegate` decides.
struct OperatingPoint {
  const char* name;
  float threshold;
  bool is_in_file;
  /// One for each class that the student predicts; nullptr: `threshold`.
  const float* class_thresholds = nullptr;
};

/// Returns the operating point of that name, or nullptr.
inline const OperatingPoint* Find(const OperatingPoint* points, int count,
                                  const char* name) {
  for (int i = 0; i < count; ++i) {
    if (std::strcmp(points[i].name, name) == 0) return &points[i];
  }
  return nullptr;
}

/// The student's outputs for one row.
struct StudentAnswer {
  const float* probabilities;
  float score;
  bool delegate;
};

/// One row's answer. `probabilities` are those of whoever answered, the
/// student's where nobody did; `label` is then -1.
struct Prediction {
  int label;
  Source source;
  bool is_error;  ///< With OnFailure::kRaise: there is no answer.
};

/// What the device can reach; each returns false where it fails.
class Cloud {
 public:
  virtual ~Cloud() = default;
  /// Asks the teacher for the logits of the row.
  virtual bool Logits(float* logits) = 0;
  /// Keeps the row until `Logits` succeeds for it.
  virtual bool Queue() { return false; }
};

/// Index of the greatest value, the first of equal ones.
inline int ArgMax(const float* values, int count) {
  int best = 0;
  for (int i = 1; i < count; ++i) {
    if (values[i] > values[best]) best = i;
  }
  return best;
}

inline bool IsDelegated(const StudentAnswer& student,
                        const OperatingPoint& point, int classes) {
  if (point.is_in_file) return student.delegate;
  const float threshold =
      point.class_thresholds == nullptr
          ? point.threshold
          : point.class_thresholds[ArgMax(student.probabilities, classes)];
  // Not `score < threshold`: a NaN score has to be delegated.
  return !(student.score >= threshold);
}

/// Softmax in place.
inline void Softmax(float* values, int count) {
  const float top = values[ArgMax(values, count)];
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += std::exp(double(values[i]) - top);
  for (int i = 0; i < count; ++i) {
    values[i] = float(std::exp(double(values[i]) - top) / sum);
  }
}

inline bool AreFinite(const float* values, int count) {
  for (int i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) return false;
  }
  return true;
}

/// True of finite numbers that are not far outside of the calibration's range,
/// as pixels from 0 to 255 are where 0 to 1 is expected.
inline bool IsNear(const float* row, int size, float low, float high) {
  const float margin = 4 * (high - low);
  for (int i = 0; i < size; ++i) {
    if (!(row[i] >= low - margin && row[i] <= high + margin)) return false;
  }
  return AreFinite(row, size);
}

/// The integer that stands for a number: the nearest, halves to even.
inline int Quantize(float value, float scale, float zero_point, int low,
                    int high) {
  const float steps = std::nearbyint(value / scale + zero_point);
  return steps < float(low) ? low : steps > float(high) ? high : int(steps);
}

/// Answers one row.
///
/// `probabilities` has room for `classes` values, and is the result's.
inline Prediction Decide(const StudentAnswer& student,
                         const OperatingPoint& point, OnFailure on_failure,
                         Cloud* cloud, float* probabilities, int classes) {
  const int own = ArgMax(student.probabilities, classes);
  const auto use_own = [&] {
    std::memcpy(probabilities, student.probabilities, sizeof(float) * classes);
  };
  if (!IsDelegated(student, point, classes)) {
    use_own();
    return {own, Source::kEdge, false};
  }
  if (cloud != nullptr && cloud->Logits(probabilities) &&
      AreFinite(probabilities, classes)) {
    Softmax(probabilities, classes);
    return {ArgMax(probabilities, classes), Source::kCloud, false};
  }
  use_own();
  switch (on_failure) {
    case OnFailure::kAnswer: return {own, Source::kEdgeFallback, false};
    case OnFailure::kAbstain: return {-1, Source::kAbstained, false};
    case OnFailure::kQueue: {
      const bool is_kept = cloud != nullptr && cloud->Queue();
      return {-1, Source::kQueued, !is_kept};
    }
    case OnFailure::kRaise: break;
  }
  return {-1, Source::kAbstained, true};
}

}  // namespace keras_cascade

#endif  // KERAS_CASCADE_CASCADE_H_
