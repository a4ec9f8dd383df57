# The tests of a CUDA build; those of the CPU are the other builds'.
find_package(Catch2 2.13 REQUIRED)
# The kernel and engine tests on the real device, and what can be asked of NVIDIA's libraries without one.
enable_testing()
file(GLOB cuda_tests CONFIGURE_DEPENDS tests/cuda/*.cpp tests/kernels_*_test.cpp)
# Those that launch functors of their own go through nvcc, by a file that includes them: here they
# are C++ for the CPU's executable already.
foreach(name kernels_map_test kernels_reduce_test)
  list(REMOVE_ITEM cuda_tests ${CMAKE_SOURCE_DIR}/tests/${name}.cpp)
  set(device_test ${CMAKE_BINARY_DIR}/device_tests/${name}.cu)
  file(CONFIGURE OUTPUT ${device_test} CONTENT "#include \"tests/${name}.cpp\"\n")
  list(APPEND cuda_tests ${device_test})
endforeach()
add_executable(ringfort-cuda-tests ${cuda_tests})
target_compile_definitions(ringfort-cuda-tests PRIVATE RINGFORT_CUDA_TESTS)
# 20208: long double on the device; the tests use it on the host.
target_compile_options(ringfort-cuda-tests PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:--diag-suppress=20208>")
target_link_libraries(ringfort-cuda-tests PRIVATE ringfort Catch2::Catch2)
add_test(NAME cuda/kernels COMMAND ringfort-cuda-tests ~[no-device] --warn NoTests)
add_test(NAME cuda/libraries COMMAND ringfort-cuda-tests [no-device] --warn NoTests)
set_tests_properties(cuda/kernels PROPERTIES SKIP_RETURN_CODE 4 TIMEOUT 1200)
set_tests_properties(cuda/libraries PROPERTIES TIMEOUT 1200 COST 100)  # begun first: it is the longest
# cuDNN's runtime-compiled engines load the driver; where there is none, the toolkit's stub serves.
find_file(NVIDIA_DRIVER libcuda.so.1 PATHS /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib)
if(NOT NVIDIA_DRIVER)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/stub)
  file(CREATE_LINK ${CUDAToolkit_LIBRARY_DIR}/stubs/libcuda.so ${CMAKE_BINARY_DIR}/stub/libcuda.so.1
    SYMBOLIC)
  set_tests_properties(cuda/libraries PROPERTIES ENVIRONMENT_MODIFICATION
    LD_LIBRARY_PATH=path_list_append:${CMAKE_BINARY_DIR}/stub)
endif()
