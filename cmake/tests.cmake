# The Catch2 test executable and its registration with ctest, one ctest test per Catch2 test case.
# Under the sanitizers, cases tagged [slow] are left out and names carry the prefix "sanitize/",
# so that one ctest run can show both builds side by side.
enable_testing()
find_package(Catch2 2.13 REQUIRED)
list(APPEND CMAKE_MODULE_PATH ${Catch2_DIR})
include(Catch)

# Catch itself: nothing of ours runs in it, and to instrument or optimise it takes half a minute.
list(REMOVE_ITEM test_sources ${CMAKE_SOURCE_DIR}/tests/main.cpp)
add_library(ringfort-test-main OBJECT tests/main.cpp)
target_compile_options(ringfort-test-main PRIVATE -O0)
target_link_libraries(ringfort-test-main PRIVATE Catch2::Catch2)

add_executable(ringfort-tests ${test_sources} tests/fuzz/targets.cpp)
target_link_libraries(ringfort-tests PRIVATE ringfort-test-main ringfort-tools Catch2::Catch2)
set_target_properties(ringfort-tests PROPERTIES UNITY_BUILD OFF)
# Loaded into the program by tests that let its operations on files go wrong.
add_library(ringfort-faults MODULE tests/faults/inject.cpp)
target_compile_features(ringfort-faults PRIVATE cxx_std_20)
target_compile_options(ringfort-faults PRIVATE ${host_flags})
# Where tests find their data files, the program and that library, all by absolute path.
target_compile_definitions(ringfort-tests PRIVATE
  RINGFORT_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data" RINGFORT_PROGRAM="${CMAKE_BINARY_DIR}/ringfort"
  RINGFORT_FUZZ_CORPUS="${CMAKE_SOURCE_DIR}/tests/fuzz/corpus"
  RINGFORT_FAULTS="$<TARGET_FILE:ringfort-faults>")
add_dependencies(ringfort-tests ringfort-faults)
if(TARGET ringfort-cli)
  add_dependencies(ringfort-tests ringfort-cli)
endif()

# What mpirun starts in tests/mpi_test.cpp.
if(RINGFORT_MPI)
  add_executable(ringfort-mpi-ranks tests/mpi/ranks.cpp)
  target_link_libraries(ringfort-mpi-ranks PRIVATE ringfort)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/tests/mpi_test.cpp
    ${CMAKE_SOURCE_DIR}/tests/mpi_program_test.cpp PROPERTIES COMPILE_DEFINITIONS
    "RINGFORT_MPIRUN=\"${MPIEXEC_EXECUTABLE}\";RINGFORT_MPI_RANKS=\"$<TARGET_FILE:ringfort-mpi-ranks>\"")
  add_dependencies(ringfort-tests ringfort-mpi-ranks)
endif()

# catch.hpp is parsed once, not once per file.
target_precompile_headers(ringfort-tests PRIVATE <catch2/catch.hpp>)
target_compile_options(ringfort-tests PRIVATE -fpch-preprocess)
if(RINGFORT_SANITIZE)  # what is tested is instrumented; the tests are quick to compile
  target_compile_options(ringfort-tests PRIVATE -O0 -fno-sanitize=undefined)
endif()
# g++ 12 takes a moved-from std::vector in a std::function for a wild pointer; it is none.
target_compile_options(ringfort-tests PRIVATE -Wno-free-nonheap-object)

# A name that ctest garbles (";" does it) must fail, not pass as "no tests ran". Threads that wait must
# sleep: ctest runs several test processes on the same cores.
set(arguments EXTRA_ARGS --warn NoTests)
set(properties ENVIRONMENT "OMP_WAIT_POLICY=passive" TIMEOUT 600)
if(RINGFORT_SANITIZE)
  catch_discover_tests(ringfort-tests TEST_SPEC "~[slow]~[.]" TEST_PREFIX "sanitize/" ${arguments}
    PROPERTIES ${properties})

  # Device code on the CPU: the same kernels and the same kernel tests, compiled as if for CUDA
  # against tests/emulation/cuda_runtime.h, run with the warps of a block in both orders; networks and
  # products, made of kernels that are tried in both, in one. Host code is the library's, as it is for
  # nvcc: the linker takes from there what is not defined here, and so nothing of what stands in for
  # CUDA where there is none.
  file(GLOB emulated CONFIGURE_DEPENDS kernels/*.cu tests/emulation/*.cpp tests/kernels_*_test.cpp
    tests/cuda/engine_test.cpp tests/cuda/methods_test.cpp tests/cuda/products_test.cpp)
  file(GLOB device_sources CONFIGURE_DEPENDS kernels/*_cuda.cu)
  set_source_files_properties(${device_sources} PROPERTIES LANGUAGE CXX)
  add_executable(ringfort-emulation-tests ${emulated})
  set_target_properties(ringfort-emulation-tests PROPERTIES UNITY_BUILD OFF)
  target_include_directories(ringfort-emulation-tests BEFORE PRIVATE tests/emulation)
  target_compile_definitions(ringfort-emulation-tests PRIVATE RINGFORT_CUDA_EMULATION)
  # Sixteen bytes at a time are read as another type than they were written as; nvcc has no qualms.
  target_compile_options(ringfort-emulation-tests PRIVATE -fno-strict-aliasing)
  target_link_libraries(ringfort-emulation-tests PRIVATE ringfort-test-main ringfort Catch2::Catch2)
  # Other arguments for each, because Catch2's script names its files by them.
  catch_discover_tests(ringfort-emulation-tests TEST_PREFIX "emulated-forward/"
    EXTRA_ARGS --warn NoTests --order decl
    PROPERTIES ENVIRONMENT "RINGFORT_EMULATION_ORDER=forward" TIMEOUT 600)
  catch_discover_tests(ringfort-emulation-tests TEST_SPEC "~[engine]~[products]"
    TEST_PREFIX "emulated-reverse/"
    EXTRA_ARGS --warn NoTests --order lex
    PROPERTIES ENVIRONMENT "RINGFORT_EMULATION_ORDER=reverse" TIMEOUT 600)
else()
  catch_discover_tests(ringfort-tests ${arguments} PROPERTIES ${properties})
  # What convolutions and products do on a CPU without AVX-512, on any CPU.
  add_test(NAME without-avx512 COMMAND ringfort-tests "[conv2d],[plans],[gemm],[ops]")
  set_tests_properties(without-avx512 PROPERTIES TIMEOUT 600
    ENVIRONMENT "OMP_WAIT_POLICY=passive;ONEDNN_MAX_CPU_ISA=AVX2")
  if(RINGFORT_MPI)  # skipped where network namespaces are not permitted
    add_test(NAME cluster/faults COMMAND ${CMAKE_SOURCE_DIR}/tests/cluster/run --faults)
    set_tests_properties(cluster/faults PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 400)
  endif()
endif()
