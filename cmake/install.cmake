# What `cmake --install` lays down: the library, its headers, the package file by which
# find_package(Ringfort) finds them, and the program.
#   include/ringfort/{kernels,engine,models,adversarial}/   included as they are here: "kernels/view.h"
#   lib/libringfort.a, lib/cmake/Ringfort/                  the target Ringfort::ringfort
#   bin/ringfort
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Ringfort)
set(header_dir ${CMAKE_INSTALL_INCLUDEDIR}/ringfort)

# Headers of a backend that this build does not have would not compile.
if(RINGFORT_CUDA)
  set(which FILES_MATCHING REGEX "\\.(h|cuh)$")
else()
  set(which FILES_MATCHING REGEX "\\.h$" REGEX "_(cuda|cudnn)\\.h$" EXCLUDE)
endif()
foreach(folder kernels engine models adversarial distributed)
  install(DIRECTORY ${folder}/ DESTINATION ${header_dir}/${folder} OPTIONAL ${which})
endforeach()

# The target carries what the headers need to compile as they do here: C++20, OpenMP, the include
# folder. It carries no warnings, no -Werror and no -march: flags of the CPU change no type of ours,
# which tests/install checks, and no calling convention.
target_include_directories(ringfort INTERFACE $<INSTALL_INTERFACE:${header_dir}>)
install(TARGETS ringfort EXPORT RingfortTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT RingfortTargets NAMESPACE Ringfort:: DESTINATION ${package_dir})
configure_package_config_file(cmake/RingfortConfig.cmake.in RingfortConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 every minor version may change the interface.
write_basic_package_version_file(RingfortConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/RingfortConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/RingfortConfigVersion.cmake cmake/RingfortDependencies.cmake
  DESTINATION ${package_dir})
install(TARGETS ringfort-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
