// A user's flags and the library's agree on every type.
#include <cstdio>
#include <vector>

std::vector<std::size_t> plain_layout();
std::vector<std::size_t> native_layout();

int main() {
  const std::vector<std::size_t> plain = plain_layout(), native = native_layout();
  for (std::size_t i = 0; i < plain.size(); ++i)
    if (plain[i] != native[i])
      std::printf("type %zu: %zu without -march=native, %zu with it\n", i % (plain.size() / 2),
                  plain[i], native[i]);
  return plain == native ? 0 : 1;
}
