#!/usr/bin/env bash
# muster doctor: every check reports; broken, crashing and hanging libraries cost one row each.
set -u
muster=${B:-build/default}/bin/muster
doubles=$(realpath "${B:-build/default}/tests/doubles")
tmp=$(mktemp -d /tmp/muster-doctor-t-XXXXXX)
trap 'rm -rf "$tmp"' EXIT
export MUSTER_HOME=$tmp/home MUSTER_RUN_ROOT=$tmp/run
n=0 bad=0
check() { # NAME COMMAND...
    n=$((n + 1))
    if "${@:2}"; then echo "ok $n - $1"; else
        echo "not ok $n - $1"
        bad=$((bad + 1))
        sed 's/^/# /' "$tmp/out" "$tmp/err"
    fi
}
run() { # ARGS...
    "$muster" doctor "$@" >"$tmp/out" 2>"$tmp/err"
    rc=$?
}
json() { # PYTHON EXPRESSION over j and c, the checks by name
    python3 -c "import json,sys; j=json.load(open('$tmp/out')); c={x['name']: x for x in j['checks']}; sys.exit(0 if ($1) else 1)" 2>>"$tmp/err"
}
fake() { # LIBRARY SOURCE
    printf '%s\n' "$2" | ${CC:-gcc} -w -shared -fPIC -x c -o "$tmp/lib/$1" - || echo "# cannot compile $1"
}
mkdir "$tmp/lib" "$tmp/run"

run --json
check "exit 0 here" [ $rc = 0 ]
check "schema, and the keys of every check" json "j['schema'] == 'muster.doctor/1' and all(type(x['ok']) is bool and x['found'] and type(x['fix']) is str for x in j['checks'])"
check "NCCL that is not there is named" json "c['nccl']['found'].startswith('none: NCCL: not found (libnccl.so.2: ') or 'libnccl' in c['nccl']['found']"
if [ -e "$B/lib/libmuster_cuda.so" ]; then
    check "our GPU kernels, where nvcc has built them" json "c['kernels']['ok'] and c['kernels']['found'].endswith('/lib/libmuster_cuda.so')"
else
    check "our GPU kernels, where no nvcc has built them" json "c['kernels']['found'].startswith('none: libmuster_cuda.so was not built')"
fi
check "what the contract names is there" json "{'mpi','pmix','hwloc','ucx','nccl','cuda','gpus','infiniband','limits'} <= set(c)"
check "Open MPI with version and path" json "c['mpi']['ok'] and 'Open MPI v' in c['mpi']['found'] and '/libmpi.so' in c['mpi']['found']"
check "PMIx and hwloc too" json "all(c[k]['ok'] and '.so' in c[k]['found'] for k in ('pmix', 'hwloc'))"
check "the state directory that is meant" json "'$MUSTER_HOME/' in c['state']['found']"
check "nothing is left in the run directory" [ -z "$(ls -A "$tmp/run")" ]
run
check "a table for people" grep -Eq '^mpi +ok +Open MPI' "$tmp/out"
check "with a verdict" grep -q 'Everything that muster needs is here' "$tmp/out"

fake libcuda.so.1 'int cuDriverGetVersion(int *v){*v=12040;return 0;} int cuInit(unsigned f){return 0;}'
fake libnccl.so.2 'int ncclGetVersion(int *v){*v=21805;return 0;}
int ncclCommInitRankConfig,ncclCommAbort,ncclCommGetAsyncError,ncclAllReduce,ncclGetErrorString,ncclGetLastError,ncclGetUniqueId,ncclCommFinalize,
ncclCommDestroy,ncclGroupStart,ncclGroupEnd,ncclReduce,ncclReduceScatter,ncclAllGather,ncclBroadcast,ncclSend,ncclRecv;'
fake libnccl-half.so 'int ncclGetVersion(int *v){*v=21901;return 0;}
int ncclCommInitRankConfig,ncclCommAbort,ncclCommGetAsyncError,ncclAllReduce;'
fake libnccl-old.so 'int ncclGetVersion(int *v){*v=21701;return 0;}'
fake libnccl-other.so 'int ncclGetVersion(int *v){*v=21901;return 0;}'
fake libnvidia-ml.so.1 '#include <stdio.h>
int nvmlInit_v2(void){return 0;} int nvmlDeviceGetCount_v2(unsigned *n){*n=3;return 0;}
int nvmlDeviceGetHandleByIndex_v2(unsigned i,void **h){*h=(void*)(long)i;return 0;}
int nvmlDeviceGetName(void *h,char *s,unsigned n){snprintf(s,n,(long)h==2?"NVIDIA L4":"NVIDIA H200");return 0;}
int nvmlSystemGetDriverVersion(char *s,unsigned n){snprintf(s,n,"550.54.15");return 0;}
const char *nvmlErrorString(int e){return "?";}'
LD_LIBRARY_PATH=$tmp/lib run --json
check "a CUDA driver" json "c['cuda']['ok'] and c['cuda']['found'].startswith('CUDA 12.4, $tmp/lib')"
check "NCCL's encoded version" json "c['nccl']['ok'] and c['nccl']['found'].startswith('2.18.5, ')"
check "GPUs by name, with the driver" json "c['gpus']['found'].startswith('2 x NVIDIA H200, 1 x NVIDIA L4, driver 550.54.15')"

echo 'gpus=2 1.clocks=64' >"$tmp/gpus"
export MUSTER_NVML_DOUBLE=$tmp/gpus
MUSTER_NVML_LIB=$doubles/libnvidia-ml.so.1 run --json
check "NVML's library, and what it says of a GPU" json "c['gpus']['ok'] and c['gpus']['found'].endswith(', $doubles/libnvidia-ml.so.1; GPU 1 (GPU-d0000000-0000-0000-0000-000000000001): it is slowed down: it is too hot')"
echo 'gpus=2 0.rows-failed=1' >"$tmp/gpus"
MUSTER_NVML_LIB=$doubles/libnvidia-ml.so.1 run --json
check "a GPU that has a fault" json "not c['gpus']['ok'] and 'GPU 0 (GPU-d0000000-0000-0000-0000-000000000000): rows of its memory cannot be remapped' in c['gpus']['found'] and 'nvidia-smi -r' in c['gpus']['fix']"

MUSTER_NCCL_LIB=$tmp/lib/libnccl-old.so run --json
check "one that is too old" json "not c['nccl']['ok'] and c['nccl']['found'] == 'NCCL: 2.17.1 is too old, 2.18 or later is needed ($tmp/lib/libnccl-old.so)' and '2.18' in c['nccl']['fix']"
MUSTER_NCCL_LIB=$tmp/lib/libnccl-other.so run --json
check "one that lacks what is needed" json "not c['nccl']['ok'] and 'libnccl-other.so has no ncclCommInitRankConfig' in c['nccl']['found']"
MUSTER_NCCL_LIB=$tmp/lib/libnccl-half.so MUSTER_KERNELS_LIB=$doubles/libmuster_cuda.so MUSTER_DOUBLE=no-kernels run --json
check "one that lacks what ranks need later" json "not c['nccl']['ok'] and 'libnccl-half.so has no ncclGetErrorString' in c['nccl']['found']"
check "kernels that it does not give" json "not c['kernels']['ok'] and 'libmuster_cuda.so does not give them' in c['kernels']['found'] and 'same build' in c['kernels']['fix']"
MUSTER_NCCL_LIB=$tmp/lib/gone.so MUSTER_CUDA_LIB=$tmp/lib/gone.so MUSTER_NVML_LIB=$tmp/lib/gone.so MUSTER_KERNELS_LIB=$tmp/lib/gone.so run --json
check "files that were asked for and are not there" json "all(not c[k]['ok'] and v in c[k]['found'] and 'gone.so' in c[k]['found'] for k, v in (('nccl', 'MUSTER_NCCL_LIB'), ('cuda', 'MUSTER_CUDA_LIB'), ('kernels', 'MUSTER_KERNELS_LIB')))"
mkfifo "$tmp/lib/fifo"
MUSTER_NCCL_LIB=$tmp/lib/fifo MUSTER_CUDA_LIB=$tmp/lib MUSTER_KERNELS_LIB=/dev/null run --json --timeout 5s
check "what is no file is not opened" json "all(not c[k]['ok'] and c[k]['found'].endswith(w + ', and not a library: see ' + v) for k, w, v in (('nccl', 'fifo is a FIFO', 'MUSTER_NCCL_LIB'), ('cuda', 'lib is a directory', 'MUSTER_CUDA_LIB'), ('kernels', '/dev/null is no regular file', 'MUSTER_KERNELS_LIB')))"
MUSTER_KERNELS_LIB=$doubles/libmuster_cuda.so run --json
check "GPU kernels that were asked for" json "c['kernels']['ok'] and c['kernels']['found'] == '$doubles/libmuster_cuda.so'"
fake libmuster_cuda.so 'int muster_wire_kernels_0;'
MUSTER_KERNELS_LIB=$tmp/lib/libmuster_cuda.so run --json
check "those of another build" json "not c['kernels']['ok'] and 'has no muster_wire_kernels_' in c['kernels']['found'] and 'same build' in c['kernels']['fix']"

fake libcuda.so.1 'int cuDriverGetVersion(int *v){*v=12040;return 0;} int cuInit(unsigned f){return 802;}
int cuGetErrorName(int e,const char **s){*s="CUDA_ERROR_SYSTEM_NOT_READY";return 0;}'
fake libnccl.so.2 '#include <stdlib.h>
int ncclGetVersion(int *v){abort();}'
fake libnvidia-ml.so.1 '#include <unistd.h>
int nvmlInit_v2(void){for(;;)pause();} int nvmlDeviceGetCount_v2,nvmlDeviceGetHandleByIndex_v2,nvmlDeviceGetName,nvmlSystemGetDriverVersion,nvmlErrorString;'
echo "no library" >"$tmp/lib/libucp.so.0"
LD_LIBRARY_PATH=$tmp/lib run --json --timeout 5s
check "a driver that does not start: its error" json "not c['cuda']['ok'] and 'SYSTEM_NOT_READY' in c['cuda']['found'] and 'fabricmanager' in c['cuda']['fix']"
check "a library that crashes" json "not c['nccl']['ok'] and 'signal 6' in c['nccl']['found'] and c['nccl']['fix']"
check "a driver that hangs" json "not c['gpus']['ok'] and 'no answer in' in c['gpus']['found']"
check "a library that is none" json "not c['ucx']['ok'] and 'libucp.so.0' in c['ucx']['found']"
check "optional things do not fail the run" [ $rc = 0 ]
check "and the other checks went on" json "c['mpi']['ok'] and c['state']['ok'] and len(j['checks']) >= 15"

fake libmpi.so.40 '#include <stdio.h>
int MPI_Get_library_version(char *s,int *n){*n=sprintf(s,"MPICH Version: 4.0");return 0;}'
rm "$tmp/lib/libnvidia-ml.so.1"
LD_LIBRARY_PATH=$tmp/lib run
check "something required fails: exit 1" [ $rc = 1 ]
check "named, with a fix" grep -Pzoq 'mpi +FAIL +.* is not Open MPI: MPICH.*\n +fix: install Open MPI' "$tmp/out"

MUSTER_HOME=/proc/nowhere run --json
check "a state directory that cannot be" json "not c['state']['ok'] and '/proc/nowhere' in c['state']['found'] and 'MUSTER_HOME' in c['state']['fix']"
check "exit 1" [ $rc = 1 ]
run --frobnicate
check "unknown option: exit 2" [ "$rc:$(wc -l <"$tmp/err")" = 2:1 ]
run extra
check "an operand: exit 2" [ "$rc:$(wc -l <"$tmp/err")" = 2:1 ]
run --timeout 0
check "no time at all: exit 2" [ $rc = 2 ]
run --help
check "help" [ $rc = 0 ]
echo "1..$n"
[ $bad = 0 ]
