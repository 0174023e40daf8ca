// The CUDA runtime on no device. See device.h.
#include "device.h"

#include <cuda_runtime_api.h>
#include <cxxabi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

std::recursive_mutex device::mutex;

namespace {
using Counts = std::map<std::string, long>;
constexpr size_t MEMORY = 80ull << 30, PAGE = 4096;

Counts calls, works, broken, nodes_of_last;
size_t held = 0;

struct Capture {
    unsigned long long id;
    cudaStreamCaptureMode mode;
    long thread;
    bool valid = true;
    std::set<void *> streams;
    Counts nodes;
};
struct Stream {
    std::shared_ptr<Capture> capture;
    unsigned flags = 0;
    int priority = 0;
};
struct Event {
    std::shared_ptr<Capture> capture;
    bool recorded = false;
};
std::map<void *, Stream> streams;  // nullptr: the legacy stream, which waits for all blocking ones
std::map<void *, Event> events;
std::vector<std::shared_ptr<Capture>> under_way;
thread_local cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;
thread_local cudaError_t last = cudaSuccess;
std::unordered_map<const void *, std::string> kernels;

long thread() { return syscall(SYS_gettid); }

cudaError_t failed(cudaError_t error) { return last = error; }

cudaError_t breaks(Capture *capture, const std::string &rule, cudaError_t error) {
    broken[rule]++;
    if (capture) capture->valid = false;
    return failed(error);
}

Stream &stream_at(void *handle) {  // the constants 1 and 2 name the legacy stream, too
    return streams[reinterpret_cast<size_t>(handle) <= 2 ? nullptr : handle];
}

bool waits_for_legacy(const Capture &capture) {
    for (void *handle : capture.streams)
        if (!(streams[handle].flags & cudaStreamNonBlocking)) return true;
    return false;
}

long total(const Counts &counts) {
    long sum = 0;
    for (const auto &entry : counts) sum += entry.second;
    return sum;
}

// Memory: blocks by their first byte.
struct Blocks {
    std::map<char *, size_t> sizes;
    void *make(size_t bytes) {
        bytes = (bytes + PAGE - 1) / PAGE * PAGE;
        void *made = mmap(nullptr, bytes ? bytes : PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (made == MAP_FAILED) return nullptr;
        sizes[static_cast<char *>(made)] = bytes;
        return made;
    }
    size_t drop(void *block) {  // bytes given back; 0 where there is no such block
        auto found = sizes.find(static_cast<char *>(block));
        if (found == sizes.end()) return 0;
        size_t bytes = found->second;
        munmap(block, bytes);
        sizes.erase(found);
        return bytes;
    }
    bool holds(const void *place) const {
        auto next = sizes.upper_bound(static_cast<char *>(const_cast<void *>(place)));
        if (next == sizes.begin()) return false;
        --next;
        return static_cast<const char *>(place) < next->first + next->second;
    }
} on_device, pinned;

cudaError_t copy(void *to, const void *from, size_t bytes, void *handle) {
    bool to_device = on_device.holds(to), from_device = on_device.holds(from);
    bool pageable = (!to_device && !pinned.holds(to)) || (!from_device && !pinned.holds(from));
    std::string work = !to_device ? "copy to host" : from_device ? "copy on device" : "copy to device";
    if (pageable) work += ", pageable";
    device::count(work);
    Stream &stream = stream_at(handle);
    if (stream.capture && pageable)
        return breaks(stream.capture.get(), work + " in a capture", cudaErrorStreamCaptureUnsupported);
    bool later = stream.capture != nullptr;
    if (int error = device::enqueue(handle, work)) return static_cast<cudaError_t>(error);
    if (later) return cudaSuccess;
    memmove(to, from, bytes);
    if (from_device && !to_device)  // what no kernel has written may look like no number: it reads as 0
        for (size_t place = 0; place + 4 <= bytes; place += 4) {
            unsigned word;
            memcpy(&word, static_cast<char *>(to) + place, 4);
            if ((word & 0x7f800000u) == 0x7f800000u) memset(static_cast<char *>(to) + place, 0, 4);
        }
    return cudaSuccess;
}

cudaError_t launch(const void *function, dim3 grid, dim3 block, void *stream) {
    ALONE;
    int status;
    std::unique_ptr<char, decltype(&free)> plain(
        abi::__cxa_demangle(kernels[function].c_str(), nullptr, nullptr, &status), free);
    std::string name = status == 0 ? plain.get() : kernels[function];
    device::count("launch");
    unsigned long long threads = 1ull * block.x * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || !threads || threads > 1024)
        return breaks(nullptr, "launch of an impossible shape: " + name, cudaErrorInvalidConfiguration);
    return static_cast<cudaError_t>(device::enqueue(stream, name));
}

// What may not be asked of a stream or an event that is being captured.
cudaError_t idle(const std::shared_ptr<Capture> &capture, const char *call, cudaError_t error) {
    device::count(call);
    return capture ? breaks(capture.get(), std::string(call) + " on what is captured", error) : cudaSuccess;
}
}  // namespace

int device::setting(const char *variable, int otherwise) {
    const char *value = getenv(variable);
    return value ? atoi(value) : otherwise;
}

void device::count(const std::string &call) { calls[call]++; }

int device::enqueue(void *handle, const std::string &work) {
    Stream &stream = stream_at(handle);
    if (stream.capture) {
        if (!stream.capture->valid) return failed(cudaErrorStreamCaptureInvalidated);
        stream.capture->nodes[work]++;
        return cudaSuccess;
    }
    for (auto &capture : under_way) {
        if (&stream == &streams[nullptr] && waits_for_legacy(*capture))
            return breaks(capture.get(), "legacy stream beside a capture: " + work, cudaErrorStreamCaptureImplicit);
        if (capture->thread == thread()) broken["left out of the capture of its thread: " + work]++;
    }
    works[work]++;
    return cudaSuccess;
}

int device::potentially_unsafe(const char *call) {
    device::count(call);
    if (mode_of_thread == cudaStreamCaptureModeRelaxed) return cudaSuccess;
    for (auto &capture : under_way) {
        bool own = capture->thread == thread() && capture->mode != cudaStreamCaptureModeRelaxed;
        bool other = mode_of_thread == cudaStreamCaptureModeGlobal && capture->mode == cudaStreamCaptureModeGlobal;
        if (own || other)
            return breaks(capture.get(), std::string(call) + " in a capture", cudaErrorStreamCaptureUnsupported);
    }
    return cudaSuccess;
}

extern "C" {
// ---- for the tests: "group<TAB>count<TAB>name" a line; groups call, work, broken, node, memory

void stand_in_reset() {
    ALONE;
    for (Counts *counts : {&calls, &works, &broken, &nodes_of_last}) counts->clear();
}

const char *stand_in_report() {
    ALONE;
    static std::string text;
    text.clear();
    auto add = [](const char *group, const Counts &counts) {
        for (const auto &[name, number] : counts)
            text += std::string(group) + "\t" + std::to_string(number) + "\t" + name + "\n";
    };
    add("call", calls), add("work", works), add("broken", broken), add("node", nodes_of_last);
    add("memory", {{"held", static_cast<long>(held)}});
    return text.c_str();
}

// ---- kernels

void **__cudaRegisterFatBinary(void *) { static void *handle; return &handle; }
void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
char __cudaInitModule(void **) { return 1; }
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
void __cudaRegisterFunction(void **, const char *function, char *, const char *name, int, uint3 *, uint3 *, dim3 *, dim3 *, int *) {
    ALONE;
    kernels[function] = name;
}
struct Shape { dim3 grid, block; size_t shared; void *stream; };
static thread_local std::vector<Shape> shapes;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
    shapes.push_back({grid, block, shared, stream});
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    Shape shape = shapes.back();
    shapes.pop_back();
    *grid = shape.grid, *block = shape.block, *shared = shape.shared, *static_cast<void **>(stream) = shape.stream;
    return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) { *kernel = (cudaKernel_t)function; return cudaSuccess; }
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **, size_t, cudaStream_t stream) { return launch(kernel, grid, block, stream); }
cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **, size_t, cudaStream_t stream) { return launch(function, grid, block, stream); }
cudaError_t cudaLaunchCooperativeKernel(const void *function, dim3 grid, dim3 block, void **, size_t, cudaStream_t stream) { return launch(function, grid, block, stream); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *how, const void *function, void **) { return launch(function, how->gridDim, how->blockDim, how->stream); }
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    ALONE;
    device::count("host function");
    bool later = stream_at(stream).capture != nullptr;
    auto error = static_cast<cudaError_t>(device::enqueue(stream, "host function"));
    if (!error && !later) function(data);
    return error;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *found, const void *) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024, found->numRegs = 32, found->maxDynamicSharedSizeBytes = 49152;
    found->ptxVersion = found->binaryVersion = device::setting("STAND_IN_CAPABILITY", 90);
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int threads, size_t, unsigned) {
    *blocks = std::max(1, std::min(16, 2048 / std::max(1, threads)));
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads, size_t shared) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

// ---- the device: an H100 by its numbers, of another capability or with a driver too old where asked

cudaError_t cudaGetDeviceCount(int *count) {
    bool old = device::setting("STAND_IN_DRIVER", CUDART_VERSION) < CUDART_VERSION;
    *count = old ? 0 : 1;
    return old ? failed(cudaErrorInsufficientDriver) : cudaSuccess;
}
cudaError_t cudaGetDevice(int *number) { *number = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int number) { return number ? failed(cudaErrorInvalidDevice) : cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = device::setting("STAND_IN_DRIVER", CUDART_VERSION); return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char *name, int length, int) { snprintf(name, length, "0000:00:00.0"); return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int *can, int, int) { *can = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *found, int) {
    int capability = device::setting("STAND_IN_CAPABILITY", 90);
    memset(found, 0, sizeof *found);
    strcpy(found->name, "stand-in");
    found->totalGlobalMem = MEMORY, found->major = capability / 10, found->minor = capability % 10;
    found->multiProcessorCount = 132, found->warpSize = 32, found->maxThreadsPerBlock = 1024;
    found->maxThreadsPerMultiProcessor = 2048, found->maxBlocksPerMultiProcessor = 32;
    found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024, found->maxThreadsDim[2] = 64;
    found->maxGridSize[0] = 2147483647, found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->sharedMemPerBlock = 49152, found->sharedMemPerBlockOptin = 232448, found->sharedMemPerMultiprocessor = 233472;
    found->regsPerBlock = found->regsPerMultiprocessor = 65536, found->l2CacheSize = 50 << 20;
    found->totalConstMem = 65536, found->textureAlignment = 512, found->memoryBusWidth = 5120;
    found->unifiedAddressing = found->concurrentKernels = found->cooperativeLaunch = found->managedMemory = 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int number) {
    cudaDeviceProp found;
    cudaGetDeviceProperties(&found, number);
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = found.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = found.minor; break;
        case cudaDevAttrMultiProcessorCount: *value = found.multiProcessorCount; break;
        case cudaDevAttrWarpSize: *value = found.warpSize; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = found.maxThreadsPerBlock; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = found.maxThreadsPerMultiProcessor; break;
        case cudaDevAttrMaxBlockDimX: case cudaDevAttrMaxBlockDimY: *value = found.maxThreadsDim[0]; break;
        case cudaDevAttrMaxBlockDimZ: *value = found.maxThreadsDim[2]; break;
        case cudaDevAttrMaxGridDimX: *value = found.maxGridSize[0]; break;
        case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: *value = found.maxGridSize[1]; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = found.sharedMemPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = found.sharedMemPerBlockOptin; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = found.sharedMemPerMultiprocessor; break;
        case cudaDevAttrMaxRegistersPerBlock: *value = found.regsPerBlock; break;
        case cudaDevAttrL2CacheSize: *value = found.l2CacheSize; break;
        default: *value = 1;
    }
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
    ALONE;
    device::count("wait for the device");
    for (auto &capture : under_way) breaks(capture.get(), "wait for the device in a capture", cudaSuccess);
    return under_way.empty() ? cudaSuccess : failed(cudaErrorStreamCaptureUnsupported);
}
cudaError_t cudaGetLastError() { auto error = last; last = cudaSuccess; return error; }
cudaError_t cudaPeekAtLastError() { return last; }
const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
        case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
        case cudaErrorStreamCaptureImplicit: return "operation would make the legacy stream depend on a capturing blocking stream";
        case cudaErrorStreamCaptureIsolation: return "dependency created on uncaptured work in another stream";
        case cudaErrorCapturedEvent: return "operation not permitted on an event last recorded in a capturing stream";
        default: return "another error of the stand-in";
    }
}
const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }
static int answered() { return 0; }
cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **function, unsigned, unsigned long long, cudaDriverEntryPointQueryResult *result) {
    *function = reinterpret_cast<void *>(answered);
    if (result) *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void **place, const void *) { static char room[1 << 16]; *place = room; return cudaSuccess; }
cudaError_t cudaMemcpyToSymbol(const void *, const void *, size_t, size_t, cudaMemcpyKind) { return cudaSuccess; }

// ---- memory

cudaError_t cudaMalloc(void **place, size_t bytes) {
    ALONE;
    if (int error = device::potentially_unsafe("cudaMalloc")) return static_cast<cudaError_t>(error);
    if (held + bytes > MEMORY || !(*place = on_device.make(bytes))) return failed(cudaErrorMemoryAllocation);
    held += on_device.sizes[static_cast<char *>(*place)];
    return cudaSuccess;
}
cudaError_t cudaFree(void *place) {
    ALONE;
    if (int error = device::potentially_unsafe("cudaFree")) return static_cast<cudaError_t>(error);
    if (!place) return cudaSuccess;
    size_t bytes = on_device.drop(place);
    held -= bytes;
    return bytes ? cudaSuccess : breaks(nullptr, "cudaFree of what was not allocated", cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void **place, size_t bytes, unsigned) {
    ALONE;
    if (int error = device::potentially_unsafe("cudaHostAlloc")) return static_cast<cudaError_t>(error);
    return (*place = pinned.make(bytes)) ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void *place) { ALONE; device::count("cudaFreeHost"); pinned.drop(place); return cudaSuccess; }
cudaError_t cudaHostRegister(void *, size_t, unsigned) { return cudaSuccess; }
cudaError_t cudaHostUnregister(void *) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *left, size_t *all) { ALONE; *all = MEMORY; *left = MEMORY - held; return cudaSuccess; }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *found, const void *place) {
    ALONE;
    memset(found, 0, sizeof *found);
    found->type = on_device.holds(place) ? cudaMemoryTypeDevice : pinned.holds(place) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    found->devicePointer = found->hostPointer = const_cast<void *>(place);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) { ALONE; return copy(to, from, bytes, stream); }
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind) {
    ALONE;
    if (int error = device::potentially_unsafe("cudaMemcpy")) return static_cast<cudaError_t>(error);
    return copy(to, from, bytes, nullptr);
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t step_to, const void *from, size_t step_from, size_t width, size_t height, cudaMemcpyKind, cudaStream_t stream) {
    ALONE;
    for (size_t row = 0; row < height; ++row)
        if (auto error = copy(static_cast<char *>(to) + row * step_to, static_cast<const char *>(from) + row * step_from, width, stream)) return error;
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *place, int value, size_t bytes, cudaStream_t stream) {
    ALONE;
    device::count("memset");
    bool later = stream_at(stream).capture != nullptr;
    auto error = static_cast<cudaError_t>(device::enqueue(stream, "memset"));
    if (!error && !later) memset(place, value, bytes);
    return error;
}
cudaError_t cudaMemset(void *place, int value, size_t bytes) { return cudaMemsetAsync(place, value, bytes, nullptr); }

// ---- streams and events

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    ALONE;
    *stream = static_cast<cudaStream_t>(malloc(64));
    streams[*stream] = Stream{nullptr, flags, priority};
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { ALONE; streams.erase(stream); return cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) { ALONE; *priority = stream_at(stream).priority; return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { ALONE; return idle(stream_at(stream).capture, "wait for a stream", cudaErrorStreamCaptureUnsupported); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { ALONE; return idle(stream_at(stream).capture, "query of a stream", cudaErrorStreamCaptureUnsupported); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    ALONE;
    *event = static_cast<cudaEvent_t>(malloc(64));
    events[*event] = Event{};
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { ALONE; events.erase(event); return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    ALONE;
    auto &capture = stream_at(stream).capture;
    if (capture && !capture->valid) return failed(cudaErrorStreamCaptureInvalidated);
    events[event] = Event{capture, true};
    return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) { return cudaEventRecord(event, stream); }
cudaError_t cudaEventQuery(cudaEvent_t event) {
    ALONE;
    auto error = idle(events[event].capture, "query of an event", cudaErrorCapturedEvent);
    return error ? error : static_cast<cudaError_t>(device::potentially_unsafe("cudaEventQuery"));
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    ALONE;
    auto error = idle(events[event].capture, "wait for an event", cudaErrorCapturedEvent);
    return error ? error : static_cast<cudaError_t>(device::potentially_unsafe("cudaEventSynchronize"));
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t, cudaEvent_t) { *milliseconds = 0.01f; return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
    ALONE;
    device::count("a stream waits for an event");
    Stream &stream = stream_at(handle);
    Event &seen = events[event];
    if (stream.capture && !seen.capture && seen.recorded)
        return breaks(stream.capture.get(), "a capture waits for work outside of it", cudaErrorStreamCaptureIsolation);
    if (!stream.capture && seen.capture) {  // the stream joins the capture
        if (&stream == &streams[nullptr])
            return breaks(seen.capture.get(), "the legacy stream waits for a capture", cudaErrorStreamCaptureImplicit);
        stream.capture = seen.capture;
        seen.capture->streams.insert(handle);
    }
    return cudaSuccess;
}

// ---- capture

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) { std::swap(*mode, mode_of_thread); return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    ALONE;
    device::count("capture");
    static unsigned long long captures = 0;
    Stream &stream = stream_at(handle);
    if (&stream == &streams[nullptr] || stream.capture) return failed(cudaErrorStreamCaptureUnsupported);
    stream.capture = std::make_shared<Capture>(Capture{++captures, mode, thread(), true, {handle}, {}});
    under_way.push_back(stream.capture);
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph) {
    ALONE;
    *graph = nullptr;
    auto capture = stream_at(handle).capture;
    if (!capture) return failed(cudaErrorIllegalState);
    for (auto &[name, stream] : streams) if (stream.capture == capture) stream.capture = nullptr;
    for (auto &[name, event] : events) if (event.capture == capture) event.capture = nullptr;
    std::erase(under_way, capture);
    if (!capture->valid) return failed(cudaErrorStreamCaptureInvalidated);
    nodes_of_last = capture->nodes;
    *graph = reinterpret_cast<cudaGraph_t>(new Counts(capture->nodes));
    return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus *status, unsigned long long *id, cudaGraph_t *graph, const cudaGraphNode_t **before, const cudaGraphEdgeData **edges, size_t *count) {
    ALONE;
    auto &capture = stream_at(handle).capture;
    *status = !capture ? cudaStreamCaptureStatusNone : capture->valid ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated;
    if (id && capture) *id = capture->id;
    if (graph) *graph = nullptr;
    if (before) *before = nullptr;
    if (edges) *edges = nullptr;
    if (count) *count = 0;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *status) {
    ALONE;
    Stream &stream = stream_at(handle);
    if (&stream == &streams[nullptr])
        for (auto &capture : under_way)
            if (waits_for_legacy(*capture)) return failed(cudaErrorStreamCaptureImplicit);
    return cudaStreamGetCaptureInfo(handle, status, nullptr, nullptr, nullptr, nullptr, nullptr);
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long) { *made = reinterpret_cast<cudaGraphExec_t>(graph); return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t stream) { ALONE; device::count("graph"); return static_cast<cudaError_t>(device::enqueue(stream, "graph")); }
cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *, size_t *count) { *count = total(*reinterpret_cast<Counts *>(graph)); return cudaSuccess; }
}
