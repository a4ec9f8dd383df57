// Sentences of errors.
#include "tests/temp_folder.h"

using namespace ringfort;
using namespace ringfort::test;

TEST_CASE("an error is one line that does nothing to a terminal, whatever it quotes", "[files]") {
  CHECK(error_of([] { fail("'{}' is {}", "a\nb\r\x1b[2J\x7f\xc3\xa4", 3); }) ==
        "'a?b??[2J?\xc3\xa4' is 3");
  CHECK(error_of([] { require(false, "tab '{}'", '\t'); }) == "tab '?'");
}
