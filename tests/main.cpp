// The Catch2 main of the test executable; the tests themselves are in *_test.cpp.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
