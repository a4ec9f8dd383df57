# The Catch2 test executable and its registration with ctest, one ctest test per Catch2 test case.
# Under the sanitizers, cases tagged [slow] are left out and names carry the prefix "sanitize/",
# so that one ctest run can show both builds side by side.
enable_testing()
find_package(Catch2 2.13 REQUIRED)
list(APPEND CMAKE_MODULE_PATH ${Catch2_DIR})
include(Catch)

add_executable(ringfort-tests ${test_sources})
target_link_libraries(ringfort-tests PRIVATE ringfort-tools Catch2::Catch2)
set_target_properties(ringfort-tests PROPERTIES UNITY_BUILD OFF)
# Where tests find their data files and the program, both by absolute path.
target_compile_definitions(ringfort-tests PRIVATE
  RINGFORT_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data" RINGFORT_PROGRAM="${CMAKE_BINARY_DIR}/ringfort")
if(TARGET ringfort-cli)
  add_dependencies(ringfort-tests ringfort-cli)
endif()

# catch.hpp is parsed once, not once per file; main.cpp needs it with CATCH_CONFIG_MAIN set.
target_precompile_headers(ringfort-tests PRIVATE <catch2/catch.hpp>)
target_compile_options(ringfort-tests PRIVATE -fpch-preprocess)
# g++ 12 takes a moved-from std::vector in a std::function for a wild pointer; it is none.
target_compile_options(ringfort-tests PRIVATE -Wno-free-nonheap-object)
set_source_files_properties(${CMAKE_SOURCE_DIR}/tests/main.cpp PROPERTIES
  SKIP_PRECOMPILE_HEADERS ON)

# A name that ctest garbles (";" does it) must fail, not pass as "no tests ran". Threads that wait must
# sleep: ctest runs several test processes on the same cores.
set(arguments EXTRA_ARGS --warn NoTests)
set(properties ENVIRONMENT "OMP_WAIT_POLICY=passive" TIMEOUT 600)
if(RINGFORT_SANITIZE)
  catch_discover_tests(ringfort-tests TEST_SPEC "~[slow]" TEST_PREFIX "sanitize/" ${arguments}
    PROPERTIES ${properties})
else()
  catch_discover_tests(ringfort-tests ${arguments} PROPERTIES ${properties})
endif()
