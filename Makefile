# muster. `make demo` and `make test` install what is missing, build and run; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

SAN ?=
B ?= build/$(if $(SAN),san-$(subst $(,),-,$(SAN)),default)
, := ,
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
PREFIX ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0
SOVERSION := 1

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))

ifeq ($(filter help deps clean format,$(MAKECMDGOALS)),)
ifneq ($(filter demo test test-% bench-% soak-%,$(MAKECMDGOALS)),)
$(if $(MUSTER_NO_DEPS),,$(if $(shell CC='$(CC)' runtime/tools/deps.sh install $(if $(filter-out demo,$(MAKECMDGOALS)),tests) >&2 || echo fail),$(error packages are missing, see above)))
endif
-include $(B)/config.mk
endif

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla \
        -Wformat=2 -Wno-format-nonliteral -Wno-missing-field-initializers $(if $(WERROR),-Werror)
# Fences stand beside atomics here, which are what the sanitizer follows; gcc warns of each.
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined) \
            $(if $(findstring thread,$(SAN)),$(if $(findstring clang,$(CC)),,-Wno-tsan))
OPT ?= $(if $(SAN),-O1,-O2)
CFLAGS ?=
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE $(OPT) -g -fPIC -fvisibility=hidden -pthread $(WARN) $(SANFLAGS) \
              -I. -Iruntime/include -I$(B) -DMUSTER_VERSION='"$(VERSION)"' $(DEPS_CFLAGS) $(CFLAGS)
ALL_LDFLAGS := -pthread $(SANFLAGS) -Wl,--as-needed $(LDFLAGS)

# One archive of all rooms; the linker takes from it what a program uses, so a new .c needs no edit here.
ROOMS := runtime/base runtime/wire topo collectives runtime/ckpt runtime/rank runtime/keeper runtime/agent launcher
ROOM_SRC := $(filter-out launcher/main.c,$(foreach r,$(ROOMS),$(wildcard $(r)/*.c $(r)/*/*.c))) $(wildcard bench/*.c bench/judge/*.c)
ROOM_OBJ := $(ROOM_SRC:%.c=$(B)/obj/%.o)
LIB_OBJ := $(patsubst %.c,$(B)/obj/%.o,$(wildcard runtime/rank/*.c) runtime/base/err.c)
BENCH_SRC := $(wildcard bench/rank/*.c)
EXAMPLES := $(patsubst docs/examples/%.c,$(B)/examples/%,$(wildcard docs/examples/*.c))
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/*.c))
MPITEST := $(patsubst tests/mpi/%.c,$(B)/tests/mpi/%,$(wildcard tests/mpi/*.c))
HELPERS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/cli/*.c tests/fault/*.c tests/peers/*.c))
GPUTEST := $(patsubst tests/gpu/%.c,$(B)/tests/gpu/%,$(wildcard tests/gpu/*.c))
FUZZ_SRC := $(wildcard tests/fuzz/*.c)
SIM_SRC := $(wildcard tests/sim/*.c)
POLICY_SRC := $(wildcard tests/policy/*.c)
JUDGE_SRC := $(wildcard tests/judge/*.c)
MAN := $(wildcard docs/man/*.[1-9])

.PHONY: all lib tests deps demo test check bench format lint tags fuzz tsan install uninstall coverage clean help

# NVCC is what the probe found, NVCC_ARCH the GPUs that it compiles for.
KERNELS := $(if $(NVCC),$(B)/lib/libmuster_cuda.so)
GPU_CODE := $(if $(NVCC),$(KERNELS) $(B)/examples/train_lm_gpu.so)
all: $(B)/bin/muster $(B)/lib/libmuster.so $(if $(BENCH_SRC),$(B)/libexec/muster/bench-rank) $(EXAMPLES) $(GPU_CODE)
lib: $(B)/lib/libmuster.so
SCALE := $(B)/tests/scale/agents $(B)/tests/scale/virtual
SHIM := $(B)/tests/fault/io_shim.so
DOUBLES := $(addprefix $(B)/tests/doubles/,libnccl.so.2 libnccl-2.18.so libnccl-2.17.so libnccl-plain.so libcuda.so.1 libcublas.so.13 libnvidia-ml.so.1 libnvidia-ml-old.so libnull.so train_lm_gpu.so libmuster_cuda.so)
tests: all $(SHIM) $(DOUBLES) $(GPUTEST) $(SCALE) $(UNIT) $(MPITEST) $(HELPERS) $(B)/tests/fault/protected-mutants $(if $(SIM_SRC),$(B)/tests/sim/sim $(B)/tests/sim/sim-mutants) $(B)/tests/policy/trace $(B)/tests/policy/trace-mutants $(B)/tests/judge/judge

$(B)/config.mk: runtime/tools/probe.sh runtime/tools/packages
	@mkdir -p $(B)
	@CC='$(CC)' runtime/tools/probe.sh $(B)

$(B)/obj/%.o: %.c $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The files of the status page are taken in by its assembler.
$(B)/obj/launcher/page/files.o: launcher/page/page.css launcher/page/page.js launcher/page/icon.svg

$(B)/libmu.a: $(ROOM_OBJ)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)ar rcs $@ $^

$(B)/lib/libmuster.so: $(LIB_OBJ) $(B)/libmu.a runtime/rank/libmuster.map
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -shared -Wl,-soname,libmuster.so.$(SOVERSION) -Wl,--version-script=runtime/rank/libmuster.map \
	    $(if $(SAN),,-Wl,-z,defs) -o $@ $(LIB_OBJ) $(B)/libmu.a $(ALL_LDFLAGS) $(MPI_LIBS) -lm
	@ln -sf libmuster.so $(@D)/libmuster.so.$(SOVERSION)

$(B)/bin/muster: $(B)/obj/launcher/main.o $(B)/libmu.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(DAEMON_LIBS) -lm

$(B)/libexec/muster/bench-rank: $(BENCH_SRC:%.c=$(B)/obj/%.o) $(B)/libmu.a $(B)/lib/libmuster.so
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(BENCH_SRC:%.c=$(B)/obj/%.o) -L$(B)/lib -lmuster $(B)/libmu.a $(ALL_LDFLAGS) \
	    -Wl,-rpath,'$$ORIGIN/../../lib' $(MPI_LIBS) -lm

# Examples are built as a user builds them: muster.h and -lmuster.
$(B)/examples/train_lm: $(wildcard docs/examples/train_lm/*.[ch])
$(B)/examples/%: docs/examples/%.c $(B)/lib/libmuster.so $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(if $(SAN),-O1,-O3 -march=native) -g $(WARN) $(SANFLAGS) -Iruntime/include -o $@ $(filter %.c,$^) \
	    -L$(B)/lib -lmuster -Wl,-rpath,'$$ORIGIN/../lib' $(ALL_LDFLAGS) -lcrypto -lm

NVCC_ARCH ?= all-major
$(B)/examples/train_lm_gpu.so: docs/examples/train_lm/gpu_cuda.cu docs/examples/train_lm/kernels.h
# The same bits as on the CPU: no product and sum at once.
$(B)/lib/libmuster_cuda.so: collectives/nccl/wire_cuda.cu collectives/nccl/wire_kernels.h collectives/half.h
$(B)/lib/libmuster_cuda.so: NVFLAGS := -fmad=false -I. -Iruntime/include
$(B)/lib/libmuster_cuda.so $(B)/examples/train_lm_gpu.so: $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,NVCC,$@)
	$(Q)$(NVCC) -O3 -arch=$(NVCC_ARCH) $(NVFLAGS) $(if $(WERROR),-Werror all-warnings) -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra -Xlinker --as-needed -shared -o $@ $(filter %.cu,$^)

$(B)/tests/unit/%: tests/unit/%.c $(B)/libmu.a $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -o $@ $< $(B)/libmu.a $(ALL_LDFLAGS) $(DAEMON_LIBS) $(MPI_LIBS) -lm

$(B)/tests/mpi/pmix_%: MPI_LIBS += $(DAEMON_LIBS)
$(B)/tests/mpi/%: tests/mpi/%.c $(B)/lib/libmuster.so
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -o $@ $< -L$(B)/lib -lmuster -Wl,-rpath,'$$ORIGIN/../../lib' $(B)/libmu.a $(ALL_LDFLAGS) $(MPI_LIBS) -lm

$(B)/tests/fault/protected $(B)/tests/peers/drain_cost: MPI_LIBS += $(DAEMON_LIBS)
# The same with planted mistakes.
PLANTED := $(wildcard runtime/keeper/peers*.c)
$(B)/tests/fault/protected-mutants: tests/fault/protected.c $(PLANTED) $(B)/libmu.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -DMU_MUTANTS -o $@ $< $(PLANTED) $(B)/libmu.a $(ALL_LDFLAGS) $(DAEMON_LIBS) $(MPI_LIBS) -lm

$(HELPERS): $(B)/tests/%: tests/%.c $(B)/libmu.a $(B)/lib/libmuster.so
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -o $@ $< -L$(B)/lib -lmuster -Wl,-rpath,'$$ORIGIN/../../lib' $(B)/libmu.a $(ALL_LDFLAGS) $(MPI_LIBS) -lm

# Without MPI: machines with GPUs may have none.
$(B)/tests/gpu/train_kernels: $(wildcard docs/examples/train_lm/*.[ch])
$(GPUTEST): $(B)/tests/gpu/%: tests/gpu/%.c $(B)/libmu.a $(wildcard tests/gpu/*.h)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(filter %.c,$^) $(B)/libmu.a $(ALL_LDFLAGS) -lm

$(SHIM): $(wildcard tests/fault/shim/*.[ch]) $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O1 -g -fPIC -shared -fvisibility=hidden $(WARN) -I. -o $@ $(filter %.c,$^) -ldl

# Test doubles of NVIDIA's libraries; that of NCCL as the versions that tests ask for.
$(B)/tests/doubles/libcuda.so.1: tests/doubles/cuda.c
$(B)/tests/doubles/libnvidia-ml.so.1 $(B)/tests/doubles/libnvidia-ml-old.so: tests/doubles/nvml.c
$(B)/tests/doubles/libnvidia-ml-old.so: DOUBLE := -DDOUBLE_OLD
$(B)/tests/doubles/libcublas.so.13: tests/doubles/cublas.c $(B)/tests/doubles/libcuda.so.1
$(B)/tests/doubles/libcublas.so.13: DOUBLE := $(if $(SAN),,-O3)
$(B)/tests/doubles/libnull.so: tests/doubles/null.c
$(B)/tests/doubles/train_lm_gpu.so: tests/doubles/train_lm_gpu.c docs/examples/train_lm/kernels.h tests/doubles/loops.h $(B)/tests/doubles/libcuda.so.1
$(B)/tests/doubles/libmuster_cuda.so: tests/doubles/wire_kernels.c collectives/nccl/wire_kernels.h collectives/half.h tests/doubles/loops.h $(B)/tests/doubles/libcuda.so.1
# Rounded as nvcc rounds: a product and its sum at once, where the processor can.
$(B)/tests/doubles/train_lm_gpu.so: DOUBLE := $(if $(SAN),,-O3 -march=native) -ffp-contract=fast
$(B)/tests/doubles/libnccl.so.2 $(B)/tests/doubles/libnccl-2.18.so $(B)/tests/doubles/libnccl-2.17.so $(B)/tests/doubles/libnccl-plain.so: tests/doubles/nccl.c \
    $(B)/libmu.a $(B)/tests/doubles/libcuda.so.1
$(B)/tests/doubles/libnccl-2.18.so: DOUBLE := -DDOUBLE_VERSION=21805
$(B)/tests/doubles/libnccl-2.17.so: DOUBLE := -DDOUBLE_VERSION=21701
$(B)/tests/doubles/libnccl-plain.so: DOUBLE := -DDOUBLE_PLAIN
$(DOUBLES): tests/doubles/double.h $(B)/config.mk
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -Wno-unused-parameter $(DOUBLE) -shared -Wl,-soname,$(@F) -Wl,-rpath,'$$ORIGIN' -o $@ $(filter %.c %.a %.so.1,$^) $(ALL_LDFLAGS)
$(B)/tests/unit/collectives_nccl_load: $(DOUBLES)

# The simulator links the cores twice: as they are, and with the planted mutations compiled in.
$(B)/tests/sim/sim: $(SIM_SRC) $(B)/libmu.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(SIM_SRC) $(B)/libmu.a $(ALL_LDFLAGS) -lm
CORE_SRC := $(wildcard launcher/core/*.c runtime/agent/core*.c runtime/agent/tree.c runtime/keeper/core*.c) runtime/wire/beat.c
$(B)/tests/sim/sim-mutants: $(SIM_SRC) $(CORE_SRC) $(B)/libmu.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -DMU_MUTANTS -o $@ $(SIM_SRC) $(CORE_SRC) $(B)/libmu.a $(ALL_LDFLAGS) -lm

# The same for traces of jobs through the queue's policy.
$(B)/tests/policy/trace: $(POLICY_SRC) $(B)/libmu.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(POLICY_SRC) $(B)/libmu.a $(ALL_LDFLAGS) -lm
$(B)/tests/policy/trace-mutants: $(POLICY_SRC) launcher/core/policy.c launcher/core/profile.c $(B)/libmu.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -DMU_MUTANTS -o $@ $(POLICY_SRC) launcher/core/policy.c launcher/core/profile.c $(B)/libmu.a \
	    $(ALL_LDFLAGS) -lm

# Made-up clusters before the acceptance suite's judge.
$(B)/tests/judge/judge: $(JUDGE_SRC) tests/judge/world.h $(B)/libmu.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(JUDGE_SRC) $(B)/libmu.a $(ALL_LDFLAGS) -lm

$(B)/tests/scale/agents: tests/scale/agents.c tests/scale/stub.c
$(B)/tests/scale/virtual: $(addprefix tests/scale/,virtual.c vpool.c vnet.c costs.c stub.c)
$(SCALE): $(wildcard tests/scale/*.h) $(B)/libmu.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(filter %.c,$^) $(B)/libmu.a $(ALL_LDFLAGS) $(DAEMON_LIBS) -lm

deps:
	@CC='$(CC)' runtime/tools/deps.sh install tests

demo: all
	@B=$(B) docs/examples/demo.sh

test: tests
	@B=$(B) tests/run.sh
check: lint test
test-%: tests
	@B=$(B) tests/run.sh $*

bench: all
	@B=$(B) $(B)/bin/muster bench coll --op allreduce -n 2 --min 8 --max 64M
bench-%: tests
	@B=$(B) tests/peers/bench-$*.sh
soak-%: tests
	@B=$(B) tests/run.sh --soak $*

# Collectives with ranks as threads, ROUNDS times, each time others.
TSAN_TESTS = $(addprefix build/san-thread/tests/unit/collectives_,threads failures)
tsan:
	@$(MAKE) SAN=thread $(TSAN_TESTS)
	@for t in $(TSAN_TESTS); do echo "$$t $(or $(ROUNDS),5)"; $$t $(or $(ROUNDS),5) || exit 1; done

FORMATTED = $(shell git ls-files '*.c' '*.h' '*.cu')
format:
	clang-format -i $(FORMATTED)
lint:
	@tests/lint.sh
tags:
	ctags -R runtime launcher collectives bench topo tests
fuzz:
	@B=build/fuzz tests/fuzz/run.sh
coverage:
	$(MAKE) B=build/coverage OPT=-O0 CFLAGS=--coverage LDFLAGS=--coverage test
	gcovr -r . build/coverage || gcov -n $$(find build/coverage -name '*.gcda')

# Each file takes its place whole, at once: daemons and jobs that run may need it meanwhile.
put = install -m$(1) $(2) $(3).new && mv -f $(3).new $(3)

install: all
	install -d $(DESTDIR)$(PREFIX)/{bin,lib/pkgconfig,include,libexec/muster,share/doc/muster/examples/train_lm}
	$(call put,755,$(B)/bin/muster,$(DESTDIR)$(PREFIX)/bin/muster)
	$(call put,755,$(B)/lib/libmuster.so,$(DESTDIR)$(PREFIX)/lib/libmuster.so.$(SOVERSION))
	ln -sf libmuster.so.$(SOVERSION) $(DESTDIR)$(PREFIX)/lib/libmuster.so
	$(if $(KERNELS),$(call put,755,$(KERNELS),$(DESTDIR)$(PREFIX)/lib/libmuster_cuda.so))
	install -m644 runtime/include/*.h $(DESTDIR)$(PREFIX)/include/
	install -m644 docs/examples/*.c $(DESTDIR)$(PREFIX)/share/doc/muster/examples/
	install -m644 docs/examples/train_lm/* $(DESTDIR)$(PREFIX)/share/doc/muster/examples/train_lm/
	$(if $(BENCH_SRC),$(call put,755,$(B)/libexec/muster/bench-rank,$(DESTDIR)$(PREFIX)/libexec/muster/bench-rank))
	printf 'prefix=%s\nlibdir=$${prefix}/lib\nincludedir=$${prefix}/include\n\nName: muster\nDescription: supervised collectives and checkpoints for training jobs\nVersion: %s\nLibs: -L$${libdir} -lmuster\nCflags: -I$${includedir}\n' \
	    '$(PREFIX)' '$(VERSION)' >$(DESTDIR)$(PREFIX)/lib/pkgconfig/muster.pc
	for m in $(MAN); do install -D -m644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/}; done

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/{bin/muster,lib/libmuster.so*,lib/libmuster_cuda.so,lib/pkgconfig/muster.pc,include/muster.h,include/muster_mpi.h}
	rm -rf $(DESTDIR)$(PREFIX)/{libexec/muster,share/doc/muster}
	for m in $(MAN); do rm -f $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/}; done

clean:
	rm -rf build
help:
	@echo 'demo test all check bench bench-accept bench-ckpt bench-pair bench-peers bench-peers-hosts bench-restart bench-recovery bench-scale bench-metrics bench-topo bench-topo-place bench-policy bench-queue bench-overhead bench-flight bench-fault-cost format lint tags fuzz tsan install uninstall coverage clean'
	@echo 'SAN=address,undefined | SAN=thread | B=build/variant | CC=clang | NVCC= | WERROR=1 | PREFIX= DESTDIR='

-include $(ROOM_OBJ:.o=.d) $(BENCH_SRC:%.c=$(B)/obj/%.d) $(B)/obj/launcher/main.d
