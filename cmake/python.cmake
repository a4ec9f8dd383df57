# The Python package `ringfort`: python/ringfort, which checks and converts arrays, around _native, the
# library as an extension module. PYTHONPATH=build/python finds it without an installation.

# Debian's Python, for which tools/setup installs NumPy, and not whichever comes first on PATH; or that
# of an active virtual environment, or the one that -DPython_EXECUTABLE=... names.
if(NOT DEFINED Python_EXECUTABLE AND NOT DEFINED ENV{VIRTUAL_ENV} AND EXISTS /usr/bin/python3)
  set(Python_EXECUTABLE /usr/bin/python3)
endif()
find_package(Python 3.9 REQUIRED COMPONENTS Interpreter Development.Module)
find_package(pybind11 2.10 REQUIRED)

set(package ${CMAKE_BINARY_DIR}/python/ringfort)
pybind11_add_module(ringfort-python MODULE NO_EXTRAS python/module.cpp)
target_link_libraries(ringfort-python PRIVATE ringfort-tools)
set_target_properties(ringfort-python PROPERTIES OUTPUT_NAME _native UNITY_BUILD OFF
  LIBRARY_OUTPUT_DIRECTORY ${package})
file(MAKE_DIRECTORY ${package})
file(CREATE_LINK ${PROJECT_SOURCE_DIR}/python/ringfort/__init__.py ${package}/__init__.py SYMBOLIC)

# With a virtual environment as the prefix this is where its Python looks.
set(RINGFORT_PYTHON_DIR lib/python${Python_VERSION_MAJOR}.${Python_VERSION_MINOR}/site-packages
  CACHE STRING "Where the Python package is installed, below the prefix")
install(TARGETS ringfort-python LIBRARY DESTINATION ${RINGFORT_PYTHON_DIR}/ringfort)
install(FILES python/ringfort/__init__.py DESTINATION ${RINGFORT_PYTHON_DIR}/ringfort)
