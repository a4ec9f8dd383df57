# A libFuzzer program per target of tests/fuzz/targets.cpp, with the sanitizers; tests/fuzz/run builds and
# runs them.
set(instrumented -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
  -fno-omit-frame-pointer)
target_compile_options(ringfort-flags INTERFACE ${instrumented})
target_compile_definitions(ringfort-flags INTERFACE _GLIBCXX_ASSERTIONS)
target_link_options(ringfort-flags INTERFACE ${instrumented})

add_library(ringfort-fuzz-targets STATIC tests/fuzz/targets.cpp)
target_link_libraries(ringfort-fuzz-targets PUBLIC ringfort-tools)
add_custom_target(ringfort-fuzzers)
foreach(target safetensors weights tar jpeg png idx gzip recipe)
  add_executable(fuzz-${target} tests/fuzz/fuzzer.cpp)
  target_compile_definitions(fuzz-${target} PRIVATE RINGFORT_FUZZ_TARGET="${target}")
  target_link_libraries(fuzz-${target} PRIVATE ringfort-fuzz-targets)
  target_link_options(fuzz-${target} PRIVATE -fsanitize=fuzzer)
  add_dependencies(ringfort-fuzzers fuzz-${target})
endforeach()
