# What the library links, found alike by its own build and, from RingfortConfig.cmake, by the
# projects that use it. Sets RINGFORT_DEPENDENCIES. Ringfort_CUDA, Ringfort_MPI, Ringfort_NCCL: what it
# was built with.
include(CMakeFindDependencyMacro)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(Threads)
find_dependency(ZLIB)
find_dependency(JPEG)  # libjpeg-turbo's: skips scanlines and crops them
find_dependency(PNG)
find_dependency(LibArchive)
find_dependency(fmt)
find_dependency(nlohmann_json)
set(RINGFORT_DEPENDENCIES OpenMP::OpenMP_CXX Threads::Threads ZLIB::ZLIB JPEG::JPEG PNG::PNG
  LibArchive::LibArchive fmt::fmt nlohmann_json::nlohmann_json)

# ringfort_library(NAME FILE...): the library of one of these file names, as Ringfort::NAME.
macro(ringfort_library name)
  string(TOUPPER ${name}_LIBRARY variable)
  find_library(${variable} NAMES ${ARGN} HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT ${variable})
    set(Ringfort_FOUND FALSE)
    set(Ringfort_NOT_FOUND_MESSAGE
      "there is no library '${name}' here; install it, or say with -D${variable}=FILE where it is")
    if(Ringfort_FIND_REQUIRED)
      message(FATAL_ERROR "Ringfort: ${Ringfort_NOT_FOUND_MESSAGE}")
    endif()
    return()
  endif()
  if(NOT TARGET Ringfort::${name})
    add_library(Ringfort::${name} UNKNOWN IMPORTED)
    set_target_properties(Ringfort::${name} PROPERTIES IMPORTED_LOCATION "${${variable}}")
  endif()
  list(APPEND RINGFORT_DEPENDENCIES Ringfort::${name})
endmacro()

# oneDNN's own package file also demands OpenCL, which we never use; the library alone is enough.
ringfort_library(dnnl dnnl)
ringfort_library(xxhash xxhash)

if(Ringfort_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)  # the C++ bindings that MPI 3 dropped
  find_dependency(MPI COMPONENTS CXX)  # linked by name: no header of ours shows it
endif()

if(Ringfort_CUDA)
  # CMake 3.25 marks a target as deprecated that CUDA 13 no longer has, and stops there, unless the
  # project seems to ask for an older CMake.
  set(Ringfort_asked_for ${CMAKE_MINIMUM_REQUIRED_VERSION})
  set(CMAKE_MINIMUM_REQUIRED_VERSION 3.24)
  find_dependency(CUDAToolkit)
  set(CMAKE_MINIMUM_REQUIRED_VERSION ${Ringfort_asked_for})
  list(APPEND RINGFORT_DEPENDENCIES CUDA::cudart CUDA::cublasLt)
  # Beside the toolkit, or where the user says: a Python wheel has only the numbered library.
  ringfort_library(cudnn cudnn libcudnn.so.9)
  if(Ringfort_NCCL)
    ringfort_library(nccl nccl libnccl.so.2)
  endif()
endif()
