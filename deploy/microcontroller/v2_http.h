// Requests to a teacher in Open Inference Protocol v2, with binary tensors:
// docs/wire.md. They are bytes in buffers; how they travel is the board's.
//
// The answer is not parsed as JSON: its one output, asked for in binary, is at
// the end of the body, and the identity of the teacher in a header, as
// `keras-cascade serve` writes both.
//
// Compiled and run here: with g++, against `keras-cascade serve`
// (`pytest tests/deploy/test_microcontroller.py`).

#ifndef KERAS_CASCADE_V2_HTTP_H_
#define KERAS_CASCADE_V2_HTTP_H_

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace keras_cascade {

/// Where the teacher is, and what the manifest says of it.
struct TeacherSpec {
  const char* host;      ///< "teacher.example:8501"
  const char* path;      ///< "/v2/models/teacher"
  const char* token;     ///< Sent as a bearer token; nullptr: none.
  const char* identity;  ///< The manifest's; nullptr: any teacher is taken.
  const char* input;     ///< JSON of the input: name, datatype and shape.
  const char* output;    ///< Name of the output with the logits.
};

/// Why an answer is none.
enum class AnswerError { kNone, kIncomplete, kStatus, kStranger, kInvalid };

inline const char* Message(AnswerError error) {
  switch (error) {
    case AnswerError::kNone: return "";
    case AnswerError::kIncomplete: return "The answer is not complete.";
    case AnswerError::kStatus: return "The teacher answered with an error.";
    case AnswerError::kStranger:
      return "The teacher is not the bundle's: serve this bundle's teacher, "
             "or build with the bundle of the one that is served.";
    case AnswerError::kInvalid: return "The answer has no usable logits.";
  }
  return "";
}

/// Writes the head of a request; `size` bytes, the row, follow it.
///
/// Returns the head's length, or 0 where `room` is too small.
inline size_t WriteRequest(const TeacherSpec& spec, size_t size, char* buffer,
                           size_t room) {
  char json[384];
  const int length = std::snprintf(
      json, sizeof(json),
      "{\"inputs\":[{%s,\"parameters\":{\"binary_data_size\":%zu}}],"
      "\"outputs\":[{\"name\":\"%s\",\"parameters\":{\"binary_data\":true}}]}",
      spec.input, size, spec.output);
  if (length < 0 || size_t(length) >= sizeof(json)) return 0;
  const int written = std::snprintf(
      buffer, room,
      "POST %s/infer HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n"
      "%s%s%scontent-type: application/octet-stream\r\n"
      "inference-header-content-length: %d\r\ncontent-length: %zu\r\n\r\n%s",
      spec.path, spec.host, spec.token ? "authorization: Bearer " : "",
      spec.token ? spec.token : "", spec.token ? "\r\n" : "", length,
      size_t(length) + size, json);
  return written < 0 || size_t(written) >= room ? 0 : size_t(written);
}

namespace internal {

inline char Lower(char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

/// Copies a header's value; false where it is missing or too long.
inline bool Header(const char* head, size_t length, const char* name,
                   char* value, size_t room) {
  const size_t name_length = std::strlen(name);
  for (size_t start = 0; start < length;) {
    const char* line = head + start;
    const char* end =
        static_cast<const char*>(std::memchr(line, '\n', length - start));
    const size_t size = end == nullptr ? length - start : size_t(end - line);
    start += size + 1;
    size_t i = 0;
    while (i < name_length && i < size && Lower(line[i]) == name[i]) ++i;
    if (i < name_length || i >= size || line[i] != ':') continue;
    size_t from = i + 1, to = size;
    while (from < to && line[from] == ' ') ++from;
    while (to > from && (line[to - 1] == '\r' || line[to - 1] == ' ')) --to;
    if (to - from >= room) return false;
    std::memcpy(value, line + from, to - from);
    value[to - from] = '\0';
    return true;
  }
  return false;
}

/// Reads a header that is a whole number; -1 where it is none.
inline long Number(const char* head, size_t length, const char* name) {
  char value[12], *end;
  if (!Header(head, length, name, value, sizeof(value)) || !value[0]) return -1;
  const long number = std::strtol(value, &end, 10);
  return *end ? -1 : number;
}

}  // namespace internal

/// Reads a whole response: the logits of one row.
inline AnswerError ReadAnswer(const TeacherSpec& spec, const char* response,
                              size_t size, float* logits, int classes) {
  size_t head = 0;
  while (head + 4 <= size && std::memcmp(response + head, "\r\n\r\n", 4)) ++head;
  if (head + 4 > size) return AnswerError::kIncomplete;
  const char* body = response + head + 4;
  const size_t body_size = size - head - 4;
  if (size < 12 || std::memcmp(response, "HTTP/1.", 7)) {
    return AnswerError::kInvalid;
  }
  if (std::memcmp(response + 8, " 200", 4)) return AnswerError::kStatus;
  const long length = internal::Number(response, head, "content-length");
  if (length < 0) return AnswerError::kInvalid;
  if (size_t(length) > body_size) return AnswerError::kIncomplete;
  if (spec.identity != nullptr) {
    char stated[65] = "";
    internal::Header(response, head, "x-cascade-teacher", stated,
                     sizeof(stated));
    if (std::strcmp(stated, spec.identity)) return AnswerError::kStranger;
  }
  const long json = internal::Number(response, head,
                                     "inference-header-content-length");
  const long raw = long(sizeof(float)) * classes;
  if (json < 0 || size_t(length) != body_size || json + raw != length) {
    return AnswerError::kInvalid;
  }
  std::memcpy(logits, body + json, size_t(raw));  // little-endian, as here
  return AnswerError::kNone;
}

}  // namespace keras_cascade

#endif  // KERAS_CASCADE_V2_HTTP_H_
