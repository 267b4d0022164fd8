// The student and its gate in TFLite Micro.
//
// Compiled here once, with the sources of TFLite Micro, on x86-64 (see
// README.md). Not run on a microcontroller.

#ifndef KERAS_CASCADE_STUDENT_H_
#define KERAS_CASCADE_STUDENT_H_

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cascade.h"
#include "generated/bundle.h"
#include "generated/operations.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace keras_cascade {

/// Writes numbers into a tensor of float32, or as integers into one of int8 or
/// uint8, by the manifest's scale or else the tensor's own.
inline bool Write(const float* values, TfLiteTensor* tensor) {
  if (tensor->type == kTfLiteFloat32) {
    const size_t count = tensor->bytes / sizeof(float);
    for (size_t i = 0; i < count; ++i) tensor->data.f[i] = values[i];
    return true;
  }
  const bool is_signed = tensor->type == kTfLiteInt8;
  if (!is_signed && tensor->type != kTfLiteUInt8) return false;
  float scale = kInputScale, zero_point = kInputZeroPoint;
  if (scale == 0) {
    // Whole numbers, such as the bytes of pictures, have no scale at all.
    scale = tensor->params.scale > 0 ? tensor->params.scale : 1;
    zero_point = float(tensor->params.zero_point);
  }
  for (size_t i = 0; i < tensor->bytes; ++i) {
    if (is_signed) {
      tensor->data.int8[i] =
          int8_t(Quantize(values[i], scale, zero_point, -128, 127));
    } else {
      tensor->data.uint8[i] =
          uint8_t(Quantize(values[i], scale, zero_point, 0, 255));
    }
  }
  return true;
}

/// Reads one number of a tensor, dequantized.
inline float Read(const TfLiteTensor* tensor, size_t i) {
  const float scale = tensor->params.scale > 0 ? tensor->params.scale : 1;
  const int32_t zero = tensor->params.zero_point;
  switch (tensor->type) {
    case kTfLiteFloat32: return tensor->data.f[i];
    case kTfLiteInt8: return scale * float(tensor->data.int8[i] - zero);
    case kTfLiteUInt8: return scale * float(tensor->data.uint8[i] - zero);
    case kTfLiteInt32: return float(tensor->data.i32[i]);
    case kTfLiteBool: return tensor->data.b[i] ? 1 : 0;
    default: return NAN;  // is delegated
  }
}

/// Runs the student row by row. Make one, as the arena is part of it.
class Student {
 public:
  /// Allocates the tensors; false where the arena is too small or the file
  /// does not fit. TFLite Micro logs why.
  bool Open() {
    if (AddOperations(resolver_) != kTfLiteOk) return false;
    if (interpreter_.AllocateTensors() != kTfLiteOk) return false;
    return interpreter_.inputs_size() == 1 && interpreter_.outputs_size() == 3;
  }

  /// Runs one row, `kInputSize` numbers in the range of the manifest.
  bool Run(const float* row, StudentAnswer* answer) {
    if (!Write(row, interpreter_.input(0))) return false;
    if (interpreter_.Invoke() != kTfLiteOk) return false;
    const TfLiteTensor* probabilities = interpreter_.output(kProbabilities);
    for (int i = 0; i < kClassCount; ++i) {
      probabilities_[i] = Read(probabilities, size_t(i));
    }
    *answer = {probabilities_, Read(interpreter_.output(kScore), 0),
               Read(interpreter_.output(kDelegate), 0) != 0};
    return true;
  }

  size_t arena_bytes() const { return interpreter_.arena_used_bytes(); }

 private:
  alignas(16) uint8_t arena_[kArenaBytes];
  OperationResolver resolver_;
  tflite::MicroInterpreter interpreter_{tflite::GetModel(kStudent), resolver_,
                                        arena_, kArenaBytes};
  float probabilities_[kClassCount];
};

}  // namespace keras_cascade

#endif  // KERAS_CASCADE_STUDENT_H_
