#include "tools/event_file.h"

#include <bit>
#include <cstring>

namespace ringfort {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

template <class T>
void append_bytes(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}

// Protocol buffers: a field is its number and wire type in one byte, then its value.
enum Wire { kVarint = 0, kFixed64 = 1, kLengthThenBytes = 2, kFixed32 = 5 };

void append_key(std::string& out, int field, Wire wire) {
  out += static_cast<char>(field << 3 | wire);
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void append_text(std::string& out, int field, std::string_view bytes) {
  append_key(out, field, kLengthThenBytes);
  append_varint(out, bytes.size());
  out += bytes;
}

// Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
std::string event(double wall_time) {
  std::string out;
  append_key(out, 1, kFixed64);
  append_bytes(out, wall_time);
  return out;
}

// Summary { repeated Value value = 1; }, Value { string tag = 1; float simple_value = 2; }
std::string summary(std::span<const Scalar> scalars) {
  std::string out;
  for (const Scalar& scalar : scalars) {
    std::string value;
    append_text(value, 1, scalar.tag);
    append_key(value, 2, kFixed32);
    append_bytes(value, static_cast<float>(scalar.value));
    append_text(out, 1, value);
  }
  return out;
}

std::string framed(std::string_view data) {
  std::string out;
  append_bytes(out, static_cast<uint64_t>(data.size()));
  append_bytes(out, masked_crc32c(out));
  out += data;
  append_bytes(out, masked_crc32c(data));
  return out;
}

}  // namespace

std::string event_file_start(double wall_time) {
  std::string start = event(wall_time);
  append_text(start, 3, "brain.Event:2");
  return framed(start);
}

std::string scalar_record(double wall_time, int64_t step, std::span<const Scalar> scalars) {
  std::string record = event(wall_time);
  append_key(record, 2, kVarint);
  append_varint(record, static_cast<uint64_t>(step));
  append_text(record, 5, summary(scalars));
  return framed(record);
}

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78 : 0);
  }
  return ~crc;
}

// Rotated and moved, so that a CRC of bytes that hold CRCs is none of zeros.
uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8; }

}  // namespace ringfort
