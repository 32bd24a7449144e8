/* CUDA's runtime and cuBLAS, of functions that do nothing and count.

   Loaded before the real libraries (LD_PRELOAD) it shows a CUDA build of
   PyTorch one H200. Tensors, allocator, autograd and the choice of kernels are
   PyTorch's; a kernel is counted and not run. Memory of the device is zeros of
   this process that copies from and to the host alone read and write.

   The types are those of CUDA 13; nothing but a C compiler is needed. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { OK, NO_MEMORY = 2, UNREGISTERED = 0, HOST = 1, DEVICE = 2 };
struct dim3 { unsigned x, y, z; };

/* --- what happened; `null_device_counts` hands it out --- */

static struct { long launches, waits, to_device, from_device; } counts;
void null_device_counts(long *out) { memcpy(out, &counts, sizeof counts); }

#define DOES(name, what) int name() { what; return OK; }
#define NOTHING(name) DOES(name, )
#define LAUNCH(name) DOES(name, counts.launches++)
#define WAIT(name) DOES(name, counts.waits++)

/* --- memory: two reserves that grow and never shrink --- */

struct reserve { char *start, *end; size_t size; };
static struct reserve device = {.size = (size_t)1 << 41};
static struct reserve pinned = {.size = (size_t)1 << 38};

__attribute__((constructor)) static void reserve_memory(void) {
  struct reserve *both[] = {&device, &pinned};
  for (int i = 0; i < 2; i++) {
    both[i]->start = mmap(NULL, both[i]->size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (both[i]->start == MAP_FAILED) abort();
    both[i]->end = both[i]->start;
  }
}

static int within(struct reserve *r, const void *p) {
  return (char *)p >= r->start && (char *)p < r->start + r->size;
}

static int take(struct reserve *r, void **p, size_t bytes) {
  bytes = (bytes + 4095) & ~(size_t)4095;
  *p = __sync_fetch_and_add(&r->end, bytes);
  return within(r, (char *)*p + bytes) ? OK : NO_MEMORY;
}

int cudaMalloc(void **p, size_t bytes) { return take(&device, p, bytes); }
int cudaHostAlloc(void **p, size_t bytes) { return take(&pinned, p, bytes); }
NOTHING(cudaFree)
NOTHING(cudaFreeHost)
NOTHING(cudaHostRegister)
NOTHING(cudaHostUnregister)

static int copy(void *to, const void *from, size_t bytes) {
  int there = within(&device, to), here = within(&device, from);
  if (there && here) {
    counts.launches++;
    return OK;
  }
  counts.to_device += there;
  counts.from_device += here;
  memcpy(to, from, bytes);
  return OK;
}

int cudaMemcpyAsync(void *to, const void *from, size_t bytes) {
  return copy(to, from, bytes);
}
int cudaMemcpy(void *to, const void *from, size_t bytes) {
  counts.waits++;
  return copy(to, from, bytes);
}
LAUNCH(cudaMemset)
LAUNCH(cudaMemsetAsync)
NOTHING(cudaMemcpyToSymbol)

int cudaMemGetInfo(size_t *available, size_t *total) {
  *total = (size_t)143771 << 20;
  *available = *total - ((size_t)1 << 30);
  return OK;
}

struct pointer { int type, device; void *on_device, *on_host; long more[8]; };

int cudaPointerGetAttributes(struct pointer *a, const void *p) {
  *a = (struct pointer){
      within(&device, p) ? DEVICE : within(&pinned, p) ? HOST : UNREGISTERED,
      0, (void *)p, (void *)p};
  return OK;
}

/* --- the device: an H200's properties --- */

#define SHARED_MEMORY 232448 /* bytes of a block that asks for it */

static int attribute(int which) {
  switch (which) {
    case 1: case 2: case 3: return 1024;  /* threads of a block, x, y */
    case 4: return 64;                    /* z */
    case 5: return 2147483647;            /* blocks of a grid, x */
    case 6: case 7: return 65535;         /* y, z */
    case 8: return 49152;                 /* bytes of shared memory */
    case 10: return 32;                   /* threads of a warp */
    case 12: case 82: return 65536;       /* registers */
    case 16: return 132;                  /* multiprocessors */
    case 39: return 2048;                 /* threads of each */
    case 75: return 9;                    /* compute capability 9.0 */
    case 76: return 0;
    case 81: return 233472;               /* its shared memory */
    case 97: return SHARED_MEMORY;
    case 106: return 32;                  /* its blocks */
    default: return 1;
  }
}

int cudaDeviceGetAttribute(int *value, int which) {
  *value = attribute(which);
  return OK;
}

struct properties {
  char name[256], uuid[16], luid[8];
  unsigned luid_mask;
  size_t memory, shared_memory;
  int registers, warp;
  size_t pitch;
  int threads, threads_of[3], grid[3];
  size_t constants;
  int major, minor;
  size_t alignment, pitch_alignment;
  int multiprocessors, more[41];
  size_t surface_alignment;
  int others[8], bus_width, l2_cache, persisting, threads_each, caches[3];
  size_t shared_memory_each;
  int registers_each, flags[8];
  size_t shared_memory_asked;
  char rest[328];
};
_Static_assert(sizeof(struct properties) == 1008, "as in CUDA 13");
_Static_assert(offsetof(struct properties, bus_width) == 592, "as there");

int cudaGetDeviceProperties(struct properties *p) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "NVIDIA H200 (null)");
  p->memory = (size_t)143771 << 20;
  p->shared_memory = attribute(8);
  p->registers = p->registers_each = attribute(12);
  p->warp = 32;
  p->threads = 1024;
  for (int i = 0; i < 3; i++) {
    p->threads_of[i] = attribute(2 + i);
    p->grid[i] = attribute(5 + i);
  }
  p->constants = 65536;
  p->major = 9;
  p->alignment = 512;
  p->multiprocessors = attribute(16);
  p->bus_width = 6144;
  p->l2_cache = 62914560;
  p->threads_each = attribute(39);
  p->shared_memory_each = attribute(81);
  p->shared_memory_asked = SHARED_MEMORY;
  return OK;
}

int cudaGetDeviceCount(int *n) { *n = 1; return OK; }
int cudaGetDevice(int *n) { *n = 0; return OK; }
NOTHING(cudaSetDevice)
int cudaDriverGetVersion(int *v) { *v = 13000; return OK; }
int cudaRuntimeGetVersion(int *v) { *v = 13000; return OK; }
int cudaDeviceGetPCIBusId(char *id, int size) {
  strncpy(id, "0000:01:00.0", size);
  return OK;
}
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return OK;
}
NOTHING(cudaGetLastError)
NOTHING(cudaPeekAtLastError)
const char *cudaGetErrorString(int error) { return "of the null device"; }
const char *cudaGetErrorName(int error) { return "error"; }

/* --- streams and events: always done --- */

static char handles[4096];
static int handle(void **h) {
  static long next;
  *h = handles + 16 + __sync_fetch_and_add(&next, 16) % 4000;
  return OK;
}
int cudaStreamCreateWithFlags(void **s) { return handle(s); }
int cudaStreamCreateWithPriority(void **s) { return handle(s); }
int cudaEventCreate(void **e) { return handle(e); }
int cudaEventCreateWithFlags(void **e) { return handle(e); }
NOTHING(cudaStreamDestroy)
NOTHING(cudaStreamQuery)
NOTHING(cudaStreamWaitEvent)
NOTHING(cudaEventDestroy)
NOTHING(cudaEventQuery)
NOTHING(cudaEventRecord)
NOTHING(cudaEventRecordWithFlags)
NOTHING(cudaThreadExchangeStreamCaptureMode)
WAIT(cudaStreamSynchronize)
WAIT(cudaDeviceSynchronize)
WAIT(cudaEventSynchronize)
int cudaEventElapsedTime(float *ms) { *ms = 1; return OK; }
int cudaStreamIsCapturing(void *s, int *status) { *status = 0; return OK; }
int cudaStreamGetCaptureInfo(void *s, int *status) { *status = 0; return OK; }

/* --- kernels --- */

LAUNCH(cudaLaunchKernel)
LAUNCH(__cudaLaunchKernel)
LAUNCH(cudaLaunchKernelExC)
NOTHING(__cudaPushCallConfiguration)
NOTHING(__cudaPopCallConfiguration)
NOTHING(__cudaRegisterFatBinaryEnd)
NOTHING(__cudaRegisterFunction)
NOTHING(__cudaRegisterVar)
NOTHING(__cudaUnregisterFatBinary)
NOTHING(cudaFuncSetAttribute)
void **__cudaRegisterFatBinary(void *binary) {
  static void *h[4];
  return h;
}
int __cudaGetKernel(void **kernel, void *function) {
  *kernel = function;
  return OK;
}
int cudaGetSymbolAddress(void **p) { *p = handles; return OK; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n) {
  *n = 2;
  return OK;
}

struct function {
  size_t shared, constants, local;
  int threads, registers, ptx, binary, cache, shared_asked, more[24];
};
_Static_assert(sizeof(struct function) == 144, "as in CUDA 13");

int cudaFuncGetAttributes(struct function *f) {
  *f = (struct function){.threads = 1024, .registers = 32, .ptx = 90,
                         .binary = 90, .shared_asked = SHARED_MEMORY};
  return OK;
}

/* --- cuBLAS --- */

int cublasCreate_v2(void **h) { return handle(h); }
NOTHING(cublasDestroy_v2)
NOTHING(cublasSetMathMode)
NOTHING(cublasSetPointerMode_v2)
NOTHING(cublasSetStream_v2)
NOTHING(cublasSetWorkspace_v2)
int cublasGetMathMode(void *h, int *mode) { *mode = 0; return OK; }
int cublasGetPointerMode_v2(void *h, int *mode) { *mode = 0; return OK; }
LAUNCH(cublasDgemmStridedBatched)
LAUNCH(cublasDgemm_v2)
LAUNCH(cublasDgemv_v2)
LAUNCH(cublasDotEx)
LAUNCH(cublasGemmEx)
LAUNCH(cublasGemmStridedBatchedEx)
LAUNCH(cublasSdot_v2)
LAUNCH(cublasSgemmEx)
LAUNCH(cublasSgemmStridedBatched)
LAUNCH(cublasSgemm_v2)
LAUNCH(cublasSgemv_v2)
LAUNCH(cublasLtMatmul)

static int described(void **d) { return (*d = calloc(1, 512)) ? OK : 3; }
static int freed(void *d) { free(d); return OK; }
int cublasLtMatmulDescCreate(void **d) { return described(d); }
int cublasLtMatmulDescDestroy(void *d) { return freed(d); }
int cublasLtMatrixLayoutCreate(void **d) { return described(d); }
int cublasLtMatrixLayoutDestroy(void *d) { return freed(d); }
int cublasLtMatmulPreferenceCreate(void **d) { return described(d); }
int cublasLtMatmulPreferenceDestroy(void *d) { return freed(d); }
NOTHING(cublasLtMatmulDescSetAttribute)
NOTHING(cublasLtMatrixLayoutSetAttribute)
NOTHING(cublasLtMatmulPreferenceSetAttribute)

struct algorithm { uint64_t id[8]; size_t bytes; int state, more[5]; };

int cublasLtMatmulAlgoGetHeuristic(void *h, void *of, void *a, void *b,
                                   void *c, void *d, void *preference,
                                   int asked, struct algorithm *found,
                                   int *count) {
  *found = (struct algorithm){0};
  *count = 1;
  return OK;
}

/* --- the driver, of which PyTorch asks for addresses --- */

static int nothing(void) { return OK; }
int cudaGetDriverEntryPointByVersion(const char *name, void **function,
                                     unsigned version, unsigned long flags,
                                     int *status) {
  *function = (void *)nothing;
  if (status) *status = 0;
  return OK;
}
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  *flags = 0;
  *active = 1;
  return OK;
}
int cuCtxGetCurrent(void **context) { *context = handles; return OK; }
NOTHING(cuCtxSetCurrent)
NOTHING(cuInit)
NOTHING(cuGetErrorString)

/* what is compiled at run time, by PyTorch or Triton */
int cuModuleLoad(void **module) { return handle(module); }
int cuModuleLoadData(void **module) { return handle(module); }
int cuModuleLoadDataEx(void **module) { return handle(module); }
int cuModuleGetFunction(void **function) { return handle(function); }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n) { *n = 2; return OK; }
LAUNCH(cuLaunchKernel)
LAUNCH(cuLaunchKernelEx)
NOTHING(cuModuleUnload)
NOTHING(cuCtxSetLimit)
int cuCtxGetLimit(size_t *value) { *value = 0; return OK; }
int cuCtxGetDevice(int *device) { *device = 0; return OK; }
NOTHING(cuFuncSetAttribute)
NOTHING(cuFuncSetCacheConfig)
int cuDeviceGet(int *device) { *device = 0; return OK; }
int cuDeviceGetAttribute(int *value, int which) {
  return cudaDeviceGetAttribute(value, which);
}
int cuFuncGetAttribute(int *value, int which) {
  *value = which == 0 ? 1024 : which == 4 ? 32 : 0; /* threads, registers */
  return OK;
}
int cuDriverGetVersion(int *version) { return cudaDriverGetVersion(version); }
int cuDevicePrimaryCtxRetain(void **context) {
  return cuCtxGetCurrent(context);
}
int cuPointerGetAttribute(uint64_t *value, int which, uint64_t pointer) {
  *value = pointer;
  return OK;
}
