// As the library was compiled, for this machine's CPU.
#include "layout.h"

std::vector<std::size_t> native_layout() { return layout(); }
