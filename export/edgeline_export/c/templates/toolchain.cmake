# For CMake on a machine of another kind: builds @name@ with Debian's compiler for @target@ (@packages@).
#
#     cmake -S . -B ../build -DCMAKE_TOOLCHAIN_FILE=@target@.cmake && cmake --build ../build
#
# -DCMAKE_C_COMPILER= names another compiler, -DCMAKE_EXE_LINKER_FLAGS=-static makes a program that needs no libraries.
# Where QEMU is installed, ctest runs the self-test with it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR @architecture@)
if(NOT CMAKE_C_COMPILER)
  set(CMAKE_C_COMPILER @compiler@)
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

find_program(EDGELINE_EMULATOR @emulator@)
if(EDGELINE_EMULATOR)
  string(REGEX REPLACE "-gcc$" "" triplet "@compiler@")
  set(CMAKE_CROSSCOMPILING_EMULATOR "${EDGELINE_EMULATOR};-L;/usr/${triplet}")
endif()
