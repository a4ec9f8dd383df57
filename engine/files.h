// Whole files in and out. Writing is atomic: readers, and a machine that loses power, find either
// the old content or the new one, never a part. Every failure is an Error that names the file.
// Nothing here knows a format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ringfort {

inline constexpr uint64_t kMaxFileBytes = uint64_t{1} << 34;  // 16 GiB: beyond any checkpoint

// The whole content of a regular file of at most `max_bytes` bytes.
std::vector<uint8_t> read_file(const std::filesystem::path& path,
                               uint64_t max_bytes = kMaxFileBytes);

// The same as text, for recipes and other small files.
std::string read_text(const std::filesystem::path& path, uint64_t max_bytes = uint64_t{1} << 24);

// Replaces `path` by the concatenation of `parts`: temporary file in the same folder, write, fsync,
// rename, fsync of the folder. When it fails before the rename, the temporary file is removed and
// what was at `path` stays as it was; anything there but a regular file is refused.
void write_file_atomic(const std::filesystem::path& path,
                       std::span<const std::span<const std::byte>> parts);
void write_text_atomic(const std::filesystem::path& path, std::string_view text);

// Removes the temporary files that writers killed meanwhile have left in the folder.
void remove_unfinished_writes(const std::filesystem::path& folder);

}  // namespace ringfort
