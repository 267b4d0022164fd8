// A cascade on a board: reads a row, answers it, and asks the teacher where the
// student is not sure. `ReadRow` and `Exchange` are the two functions that a
// board replaces, by its sensor and by its network.
//
//   main [HOST PORT [POLICY [OPERATING_POINT]]] < rows
//
// Here a row is `kInputSize` float32 on standard input, and the network a
// socket; one line is written per row: label, score, source, name.
//
// Compiled and run here, once, on x86-64 with the sources of TFLite Micro (see
// README.md). Not run on a microcontroller.

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "cascade.h"
#include "generated/bundle.h"
#include "student.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "v2_http.h"

namespace {

using namespace keras_cascade;

bool ReadRow(float* row) {
  return std::fread(row, sizeof(float), kInputSize, stdin) == kInputSize;
}

/// Sends `size` bytes and reads the whole response; -1 where that fails.
long Exchange(const char* host, const char* port, const char* head,
              size_t head_size, const float* row, char* response,
              size_t room) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(host, port, &hints, &found) != 0) return -1;
  const int one = socket(found->ai_family, found->ai_socktype, 0);
  const timeval deadline = {10, 0};
  setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
  long received = -1;
  if (one >= 0 && connect(one, found->ai_addr, found->ai_addrlen) == 0 &&
      send(one, head, head_size, MSG_NOSIGNAL) == long(head_size) &&
      send(one, row, sizeof(float) * kInputSize, MSG_NOSIGNAL) ==
          long(sizeof(float) * kInputSize)) {
    received = 0;
    for (ssize_t more = 1; more > 0 && size_t(received) < room;) {
      more = recv(one, response + received, room - size_t(received), 0);
      if (more > 0) received += more;
    }
  }
  if (one >= 0) close(one);
  freeaddrinfo(found);
  return received;
}

class Network : public Cloud {
 public:
  Network(const char* host, const char* port) : host_(host), port_(port) {}

  const float* row = nullptr;
  int queued = 0;

  bool Logits(float* logits) override {
    if (host_ == nullptr) return false;
    const TeacherSpec spec = {host_,            "/v2/models/teacher",
                              nullptr,          kTeacherIdentity,
                              kTeacherInput,    kTeacherOutput};
    static char head[1024], response[4096];
    const size_t size = sizeof(float) * kInputSize;
    const size_t written = WriteRequest(spec, size, head, sizeof(head));
    const long received =
        written == 0 ? -1
                     : Exchange(host_, port_, head, written, row, response,
                                sizeof(response));
    if (received < 0) return false;
    const AnswerError error =
        ReadAnswer(spec, response, size_t(received), logits, kClassCount);
    if (error != AnswerError::kNone) {
      std::fprintf(stderr, "%s\n", Message(error));
    }
    return error == AnswerError::kNone;
  }

  // A board writes `row` to its flash here, and sends it later.
  bool Queue() override { return ++queued <= 100; }

 private:
  const char* host_;
  const char* port_;
};

}  // namespace

int main(int count, char** arguments) {
  tflite::InitializeTarget();
  const char* host = count > 2 ? arguments[1] : nullptr;
  OnFailure policy = OnFailure::kAnswer;
  if (count > 3 && !ReadOnFailure(arguments[3], &policy)) {
    std::fprintf(stderr, "Expected a policy out of answer, abstain, raise and "
                 "queue. Received: %s.\n", arguments[3]);
    return 2;
  }
  const char* name = count > 4 ? arguments[4] : kOperatingPoints[0].name;
  const OperatingPoint* point = Find(kOperatingPoints, kPointCount, name);
  if (point == nullptr) {
    std::fprintf(stderr, "The bundle has no operating point '%s'.\n", name);
    return 2;
  }
  static Student student;
  if (!student.Open()) return 1;
  std::fprintf(stderr, "arena: %zu bytes\n", student.arena_bytes());
  Network network(host, count > 2 ? arguments[2] : nullptr);
  static float row[kInputSize];
  while (ReadRow(row)) {
    if (!IsNear(row, kInputSize, kInputLow, kInputHigh)) {
      std::fprintf(stderr, "Expected finite numbers in the range of the "
                   "calibration, %g to %g.\n", double(kInputLow),
                   double(kInputHigh));
      return 4;
    }
    StudentAnswer answer;
    if (!student.Run(row, &answer)) return 1;
    network.row = row;
    float probabilities[kClassCount];
    const Prediction prediction = Decide(answer, *point, policy, &network,
                                         probabilities, kClassCount);
    if (prediction.is_error) {
      std::fprintf(stderr, "The teacher did not answer.\n");
      return 3;
    }
    std::printf("%d %.9g %s %s\n", prediction.label, double(answer.score),
                Name(prediction.source),
                prediction.label < 0 ? "-" : kClasses[prediction.label]);
  }
  return 0;
}
