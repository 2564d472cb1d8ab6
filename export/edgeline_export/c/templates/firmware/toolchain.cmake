# The toolchain for @what@:
#
#     cmake -S . -B ../build -DCMAKE_TOOLCHAIN_FILE=@target@.cmake
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY) # a program needs a linker script
if(NOT CMAKE_C_COMPILER)
  set(CMAKE_C_COMPILER @compiler@)
endif()
set(CMAKE_C_FLAGS_INIT "@flags@")
set(EDGELINE_MACHINE @machine@) # what QEMU calls the board
