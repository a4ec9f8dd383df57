// As a user compiles who asks for nothing: no optimisation, any x86-64.
#include "layout.h"

std::vector<std::size_t> plain_layout() { return layout(); }
