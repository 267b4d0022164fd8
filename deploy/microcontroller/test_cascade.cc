// Runs what needs no TFLite Micro, for `make test` and
// tests/deploy/test_microcontroller.py.
//
//   test_cascade decide < cases       one line of numbers per case
//   test_cascade near LOW HIGH NUMBER...
//   test_cascade quantize SCALE ZERO_POINT LOW HIGH NUMBER...
//   test_cascade request HOST SIZE IDENTITY INPUT [TOKEN]
//   test_cascade answer IDENTITY CLASSES < response

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cascade.h"
#include "v2_http.h"

namespace {

using namespace keras_cascade;

constexpr int kMost = 16;

class Scripted : public Cloud {
 public:
  float logits[kMost];
  int classes = 0;
  bool answers = false;

  bool Logits(float* values) override {
    if (answers) std::memcpy(values, logits, sizeof(float) * classes);
    return answers;
  }
  bool Queue() override { return true; }
};

int DecideAll() {
  char name[32], policy_name[16], score[32];
  int classes, delegate, outcome;
  OperatingPoint point = {name, 0, false};
  // One threshold, or one for each class.
  float thresholds[kMost];
  int count;
  while (std::scanf("%31s %d", name, &count) == 2) {
    if (count < 1 || count > kMost) return 1;
    for (int i = 0; i < count; ++i) {
      if (std::scanf("%f", &thresholds[i]) != 1) return 1;
    }
    if (std::scanf("%15s %d", policy_name, &classes) != 2) return 1;
    point.threshold = thresholds[ArgMax(thresholds, count)];
    point.class_thresholds = count > 1 ? thresholds : nullptr;
    point.is_in_file = std::strcmp(name, "default") == 0;
    OnFailure policy;
    if (classes > kMost || !ReadOnFailure(policy_name, &policy)) return 1;
    float probabilities[kMost], result[kMost];
    Scripted cloud;
    cloud.classes = classes;
    for (int i = 0; i < classes; ++i) {
      if (std::scanf("%f", &probabilities[i]) != 1) return 1;
    }
    if (std::scanf("%31s %d %d", score, &delegate, &outcome) != 3) return 1;
    for (int i = 0; outcome == 1 && i < classes; ++i) {
      if (std::scanf("%f", &cloud.logits[i]) != 1) return 1;
    }
    cloud.answers = outcome == 1;
    const StudentAnswer student = {probabilities, std::strtof(score, nullptr),
                                   delegate != 0};
    const Prediction made =
        Decide(student, point, policy, &cloud, result, classes);
    std::printf("%d %s %d", made.label, Name(made.source), made.is_error);
    for (int i = 0; i < classes; ++i) std::printf(" %.9g", double(result[i]));
    std::printf("\n");
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const char* mode = count > 1 ? arguments[1] : "";
  if (std::strcmp(mode, "decide") == 0) return DecideAll();
  if (std::strcmp(mode, "near") == 0 && count > 4) {
    float row[kMost];
    for (int i = 4; i < count && i < 4 + kMost; ++i) {
      row[i - 4] = std::strtof(arguments[i], nullptr);
    }
    std::printf("%d\n", IsNear(row, count - 4, std::strtof(arguments[2], nullptr),
                               std::strtof(arguments[3], nullptr)));
    return 0;
  }
  if (std::strcmp(mode, "quantize") == 0 && count > 6) {
    for (int i = 6; i < count; ++i) {
      std::printf("%d ", Quantize(std::strtof(arguments[i], nullptr),
                                  std::strtof(arguments[2], nullptr),
                                  std::strtof(arguments[3], nullptr),
                                  std::atoi(arguments[4]),
                                  std::atoi(arguments[5])));
    }
    return 0;
  }
  TeacherSpec spec = {"", "/v2/models/teacher", nullptr, nullptr, "", "logits"};
  if (std::strcmp(mode, "request") == 0 && count > 5) {
    spec.host = arguments[2];
    spec.identity = arguments[4];
    spec.input = arguments[5];
    spec.token = count > 6 ? arguments[6] : nullptr;
    char head[1024];
    const size_t written = WriteRequest(spec, size_t(std::atol(arguments[3])),
                                        head, sizeof(head));
    return std::fwrite(head, 1, written, stdout) == written && written ? 0 : 1;
  }
  if (std::strcmp(mode, "answer") == 0 && count > 3) {
    spec.identity = arguments[2];
    const int classes = std::atoi(arguments[3]);
    static char response[65536];
    const size_t size = std::fread(response, 1, sizeof(response), stdin);
    float logits[kMost] = {};
    const AnswerError error =
        ReadAnswer(spec, response, size, logits, classes);
    if (error != AnswerError::kNone) {
      std::printf("%s\n", Message(error));
      return 0;
    }
    for (int i = 0; i < classes; ++i) std::printf("%.9g ", double(logits[i]));
    std::printf("\n");
    return 0;
  }
  std::fprintf(stderr, "Expected decide, request or answer.\n");
  return 2;
}
