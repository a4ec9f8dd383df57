# Ringfort as its users have it: installed, moved (a package must bear that), found by
# find_package(), and used by the examples and by a project that looks at what it was given.
set(prefix ${CMAKE_BINARY_DIR}/installed)
set(examples ${CMAKE_BINARY_DIR}/examples)
add_test(NAME install/install COMMAND sh -c "rm -rf '${prefix}' '${prefix}-first' '${examples}' &&
  '${CMAKE_COMMAND}' --install '${CMAKE_BINARY_DIR}' --prefix '${prefix}-first' &&
  mv '${prefix}-first' '${prefix}' && '${prefix}/bin/ringfort' --version")
set_tests_properties(install/install PROPERTIES FIXTURES_SETUP installed TIMEOUT 120)

set(launcher)
if(CCACHE_PROGRAM)
  set(launcher -DCMAKE_CXX_COMPILER_LAUNCHER=${CCACHE_PROGRAM})
endif()

# add_user_project(NAME SOURCE_DIR BINARY_DIR [OPTION...]): configures and builds a project that finds
# the installed library.
function(add_user_project name source binary)
  add_test(NAME install/${name} COMMAND ${CMAKE_CTEST_COMMAND} --build-and-test ${source} ${binary}
    --build-generator ${CMAKE_GENERATOR} --build-options -DCMAKE_PREFIX_PATH=${prefix}
    -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} ${launcher}
    "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wshadow -Werror" ${ARGN})
  set_tests_properties(install/${name} PROPERTIES FIXTURES_REQUIRED installed FIXTURES_SETUP ${name}
    TIMEOUT 600)
endfunction()

function(add_run name program)
  add_test(NAME install/${name} COMMAND ${program} ${ARGN})
  set_tests_properties(install/${name} PROPERTIES TIMEOUT 120 ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()

add_user_project(examples ${PROJECT_SOURCE_DIR}/docs/examples ${examples})
add_run(train_own_data ${examples}/train_own_data ${examples}/run)
add_run(own_attack ${examples}/own_attack ${examples}/run/best.safetensors)
add_run(own_model ${examples}/own_model ${examples}/own_model_run)
set_tests_properties(install/train_own_data install/own_model PROPERTIES FIXTURES_REQUIRED examples)
set_tests_properties(install/train_own_data PROPERTIES FIXTURES_SETUP trained)
set_tests_properties(install/own_attack PROPERTIES FIXTURES_REQUIRED trained)

set(check ${CMAKE_BINARY_DIR}/install_check)
add_user_project(check ${PROJECT_SOURCE_DIR}/tests/install ${check}
  -DRINGFORT_SOURCE_DIR=${PROJECT_SOURCE_DIR} -DRINGFORT_BUILD_DIR=${CMAKE_BINARY_DIR})
add_run(layout ${check}/layout)
set_tests_properties(install/layout PROPERTIES FIXTURES_REQUIRED check)
