// TensorBoard's event files, as far as scalars need them: records framed as TensorFlow's TFRecord
// (length, its CRC, data, its CRC), the data being the protocol-buffer message Event. Made here and
// written by run_folder.
//
// By hand, because it is less: six fields of three messages that have not changed in ten years take
// fewer lines than the .proto files and the generator in the build would, and CRC-32C (which is not
// zlib's CRC) eight, where Debian 12 has it only in libraries for much else.
// tests/event_file_test.cpp reads the files back, tools/peer/read_events.py with TensorBoard's own
// reader.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ringfort {

struct Scalar {
  std::string_view tag;  // "train/loss": TensorBoard groups by what stands before the slash
  double value = 0;      // kept as float32; NaN is shown as a gap
};

// The record that every file begins with. wall_time: seconds since 1970.
std::string event_file_start(double wall_time);

// One record of scalars at a step.
std::string scalar_record(double wall_time, int64_t step, std::span<const Scalar> scalars);

// CRC-32C (Castagnoli; RFC 3720, appendix B.4), and as records hold it.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

}  // namespace ringfort
