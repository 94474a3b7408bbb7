# Flags that every target shares. They travel by linking sluice::options, never as global flags.
add_library(sluice_options INTERFACE)
add_library(sluice::options ALIAS sluice_options)
target_include_directories(sluice_options INTERFACE
  ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)

# AVX2 is the floor; faster instruction sets are chosen at run time, one file each. Contraction is
# off so that a plain C++ expression has one meaning everywhere: kernels fuse explicitly.
target_compile_options(sluice_options INTERFACE
  -march=x86-64-v3 -ffp-contract=off -Wall -Wextra -Wno-psabi
  $<$<CONFIG:Release>:-O2>)
if(SLUICE_WERROR)
  target_compile_options(sluice_options INTERFACE -Werror)
endif()
if(SLUICE_DCHECKS)
  target_compile_definitions(sluice_options INTERFACE SLUICE_DCHECKS)
endif()
if(SLUICE_SANITIZE)
  target_compile_options(sluice_options INTERFACE
    -fsanitize=${SLUICE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  target_link_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()
if(SLUICE_FUZZERS)
  target_compile_options(sluice_options INTERFACE
    -fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer
    -fno-sanitize-recover=undefined -g1)
  target_link_options(sluice_options INTERFACE -fsanitize=address,undefined)
endif()

# One instruction set a file: flags by the file's name.
set(SLUICE_ISA_avx2 -mavx2 -mfma -mf16c)
# GCC 12's AVX-512 intrinsics start from registers that are undefined on purpose (GCC bug 105593).
set(SLUICE_ISA_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512cd
  -mprefer-vector-width=512 -Wno-uninitialized -Wno-maybe-uninitialized)
set(SLUICE_ISA_avx512_vbmi ${SLUICE_ISA_avx512} -mavx512vbmi)
set(SLUICE_ISA_avx512_bf16 ${SLUICE_ISA_avx512_vbmi} -mavx512bf16)
set(SLUICE_ISA_avx_vnni ${SLUICE_ISA_avx2} -mavxvnni)
set(SLUICE_ISA_avx512_vnni ${SLUICE_ISA_avx512} -mavx512vnni)
set(SLUICE_ISA_amx ${SLUICE_ISA_avx512} -mamx-tile -mamx-bf16)
set(SLUICE_ISA_amx_int8 ${SLUICE_ISA_avx512_vnni} -mamx-tile -mamx-int8)
