// libjpeg and libpng report errors by a function that must not return. Here it notes the sentence
// and jumps back, as both libraries' manuals ask for: exceptions must not pass through C code.
#pragma once

#include <array>
#include <csetjmp>

namespace ringfort {

struct CodecGuard {
  std::jmp_buf back;
  std::array<char, 256> message{};

  // Runs `work`, which must hold nothing that a destructor would have to free; false where the
  // codec gave up, with its message.
  template <class Work>
  [[gnu::noinline]] bool run(const Work& work) {
    if (setjmp(back) != 0) return false;
    work();
    return true;
  }
};

}  // namespace ringfort
