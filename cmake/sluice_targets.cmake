# sluice_library(name SOURCES ... PUBLIC ... PRIVATE ...): target sluice_<name>, alias sluice::<name>.
function(sluice_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(sluice_${name} STATIC ${ARG_SOURCES})
  add_library(sluice::${name} ALIAS sluice_${name})
  target_link_libraries(sluice_${name} PUBLIC sluice::options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
endfunction()

# sluice_isa_sources(name isa files...): files of a library that are compiled for one instruction set
# (avx2, avx512, amx: flags in sluice_options.cmake).
function(sluice_isa_sources name isa)
  list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ OUTPUT_VARIABLE files)
  target_sources(sluice_${name} PRIVATE ${files})
  set(optimise -O3)
  if(SLUICE_SANITIZE MATCHES "address")  # checks in unrolled loops: minutes a file, 30 s at -O0
    set(optimise -O0)
  endif()
  set_source_files_properties(${files} TARGET_DIRECTORY sluice_${name}
    PROPERTIES COMPILE_OPTIONS "${SLUICE_ISA_${isa}};${optimise}")
endfunction()

# sluice_test(name SOURCES ... LINK ... LABELS ...): a GoogleTest program, one ctest entry. Those with
# the label `threads` run more than one thread; the target `thread_tests` builds them (for TSan).
# TSAN_FILTER: a --gtest_filter for TSan, where the whole program would take minutes and most of it
# repeats the same threads over other numbers.
function(sluice_test name)
  if(NOT SLUICE_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT;TSAN_FILTER" "SOURCES;LINK;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE sluice::options ${ARG_LINK} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set(filter)
  if(ARG_TSAN_FILTER AND SLUICE_SANITIZE STREQUAL "thread")
    set(filter --gtest_filter=${ARG_TSAN_FILTER})
  endif()
  add_test(NAME ${name} COMMAND ${name} ${filter})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(SLUICE_SANITIZE)  # five to fifteen times slower
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 4")
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
  if("threads" IN_LIST ARG_LABELS)
    if(NOT TARGET thread_tests)
      add_custom_target(thread_tests)
    endif()
    add_dependencies(thread_tests ${name})
  endif()
endfunction()

# sluice_bench(name SOURCES ... LINK ...): a measuring program, never a test. The target 'benches'
# builds all; `make bench` runs those named *_bench.
function(sluice_bench name)
  if(NOT SLUICE_BENCHES)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE sluice::options ${ARG_LINK} benchmark::benchmark)
  if(NOT TARGET benches)
    add_custom_target(benches)
  endif()
  add_dependencies(benches ${name})
endfunction()

# sluice_fuzzer(name SOURCES ... LINK ...): a libFuzzer program (preset 'fuzz', clang; the target
# 'fuzzers' builds all). The libraries are instrumented by sluice_options.cmake. Seeds lie in
# tests/fuzz/corpus/<name without _fuzz>/. With SLUICE_SLOW_TESTS, a test that runs what build/fuzz
# holds for 20 s.
function(sluice_fuzzer name)
  if(SLUICE_FUZZERS)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE sluice::options ${ARG_LINK})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined)
    if(NOT TARGET fuzzers)
      add_custom_target(fuzzers)
    endif()
    add_dependencies(fuzzers ${name})
  endif()
  if(SLUICE_SLOW_TESTS)
    add_test(NAME ${name} COMMAND ${PROJECT_SOURCE_DIR}/tests/fuzz/run.sh
             ${PROJECT_SOURCE_DIR}/build/fuzz/tests/fuzz/${name} 20)
    set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 120)
  endif()
endfunction()

# sluice_oracle_test(name script arguments...): a comparison with another implementation, a Python
# script that .venv runs. Only with SLUICE_SLOW_TESTS.
function(sluice_oracle_test name script)
  if(NOT SLUICE_SLOW_TESTS)
    return()
  endif()
  add_test(NAME ${name} COMMAND ${PROJECT_SOURCE_DIR}/.venv/bin/python
           ${CMAKE_CURRENT_SOURCE_DIR}/${script} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS oracle TIMEOUT 600)
endfunction()
