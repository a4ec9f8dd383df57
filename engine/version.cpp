// The only file that sees RINGFORT_VERSION, so that a new version recompiles only it.
#include "engine/version.h"

namespace ringfort {

std::string_view version() { return RINGFORT_VERSION; }

}  // namespace ringfort
