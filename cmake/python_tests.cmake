# The tests of the Python package, in the build folder and as it is installed.
find_program(PEER_PYTHON python PATHS ${PROJECT_SOURCE_DIR}/build/peer/bin NO_DEFAULT_PATH)

# add_python_test(NAME PYTHON PACKAGE_DIR FILE). Threads that wait must sleep, as in the other tests.
function(add_python_test name python package_dir file)
  add_test(NAME python/${name} COMMAND ${python} -B ${PROJECT_SOURCE_DIR}/tests/python/${file})
  set_tests_properties(python/${name} PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77 ENVIRONMENT
    "OMP_WAIT_POLICY=passive;PYTHONPATH=${package_dir};XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/python/cache;RINGFORT_PROGRAM=${CMAKE_BINARY_DIR}/ringfort;RINGFORT_TEST_DATA=${PROJECT_SOURCE_DIR}/tests/data")
endfunction()

add_python_test(package ${Python_EXECUTABLE} ${CMAKE_BINARY_DIR}/python test_ringfort.py)
add_python_test(installed ${Python_EXECUTABLE} ${CMAKE_BINARY_DIR}/installed/${RINGFORT_PYTHON_DIR}
  test_ringfort.py)
set_tests_properties(python/installed PROPERTIES FIXTURES_REQUIRED installed)
if(NOT PEER_PYTHON)
  set(PEER_PYTHON ${Python_EXECUTABLE})
endif()
add_python_test(pytorch ${PEER_PYTHON} ${CMAKE_BINARY_DIR}/python test_torch.py)
add_python_test(converter ${PEER_PYTHON} ${CMAKE_BINARY_DIR}/python test_converter.py)
