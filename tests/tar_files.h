// Tar files for tests, written by libarchive.
#pragma once

#include <archive.h>
#include <archive_entry.h>

#include "tests/temp_folder.h"

namespace ringfort::test {

struct Member {
  std::string path;
  Bytes bytes;
  int type = AE_IFREG;
};

inline Bytes tar(const std::vector<Member>& members, int format = ARCHIVE_FORMAT_TAR_USTAR) {
  Bytes file(size_t{1} << 22);
  size_t used = 0;
  archive* out = archive_write_new();
  archive_write_set_format(out, format);
  archive_write_set_bytes_in_last_block(out, 1);
  REQUIRE(archive_write_open_memory(out, file.data(), file.size(), &used) == ARCHIVE_OK);
  for (const Member& member : members) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, member.path.c_str());
    archive_entry_set_filetype(entry, static_cast<unsigned>(member.type));
    archive_entry_set_perm(entry, 0644);
    if (member.type == AE_IFLNK) archive_entry_set_symlink(entry, "/etc/passwd");
    archive_entry_set_size(entry, member.type == AE_IFREG ? la_int64_t(member.bytes.size()) : 0);
    REQUIRE(archive_write_header(out, entry) == ARCHIVE_OK);
    if (member.type == AE_IFREG && !member.bytes.empty())
      REQUIRE(archive_write_data(out, member.bytes.data(), member.bytes.size()) ==
              la_ssize_t(member.bytes.size()));
    archive_entry_free(entry);
  }
  REQUIRE(archive_write_close(out) == ARCHIVE_OK);
  archive_write_free(out);
  file.resize(used);
  return file;
}

}  // namespace ringfort::test
