// cuBLAS, cuDNN and the few functions of the driver that PyTorch asks for, on no device. See device.h.
//
// A function reads the first of its arguments alone: in C's calling convention on x86-64 the others
// may be left out of its declaration.
#include "device.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {
enum {  // of cudnn_graph.h, version 9, whose declarations would contradict those here
    CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR = 5,
    CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR = 10,
    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR = 12,
    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR = 11,
    CUDNN_TYPE_BACKEND_DESCRIPTOR = 15,
    CUDNN_TYPE_INT64 = 3,
    CUDNN_ATTR_OPERATIONGRAPH_OPS = 801,
    CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH = 201,
    CUDNN_ATTR_ENGINE_OPERATION_GRAPH = 1300,
    CUDNN_ATTR_ENGINECFG_ENGINE = 300,
    CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG = 401,
    CUDNN_ATTR_ENGINEHEUR_RESULTS = 202,
    CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE = 402,
};
struct Handle { void *stream = nullptr; int mode = 0; };
struct Descriptor { int kind; std::string work; };

int made(const char *call, void **handle) {
    ALONE;
    if (device::potentially_unsafe(call)) return 1;
    *handle = new Handle;
    return 0;
}
int run(void *stream, const std::string &work) {
    ALONE;
    device::count("library call");
    return device::enqueue(stream, work) ? 1 : 0;
}
int blank(void **object) { return (*object = calloc(1, 512)) ? 0 : 1; }
}  // namespace

#define SUCCEEDS(name) int name() { return 0; }
#define RUNS(name) int name(Handle *handle) { return run(handle->stream, #name); }
#define OBJECT(name) int name(void **object) { return blank(object); }
#define FREES(name) int name(void *object) { free(object); return 0; }

extern "C" {
// ---- cuBLAS

int cublasCreate_v2(void **handle) { return made("cublasCreate", handle); }
int cublasDestroy_v2(Handle *handle) { delete handle; return 0; }
int cublasSetStream_v2(Handle *handle, void *stream) { handle->stream = stream; return 0; }
int cublasSetMathMode(Handle *handle, int mode) { handle->mode = mode; return 0; }
int cublasGetMathMode(Handle *handle, int *mode) { *mode = handle->mode; return 0; }
int cublasGetPointerMode_v2(Handle *, int *mode) { *mode = 0; return 0; }
SUCCEEDS(cublasSetPointerMode_v2) SUCCEEDS(cublasSetWorkspace_v2)
RUNS(cublasSgemm_v2) RUNS(cublasDgemm_v2) RUNS(cublasSgemmEx) RUNS(cublasGemmEx) RUNS(cublasSgemv_v2) RUNS(cublasDgemv_v2)
RUNS(cublasSgemmStridedBatched) RUNS(cublasDgemmStridedBatched) RUNS(cublasGemmStridedBatchedEx)
OBJECT(cublasLtMatmulDescCreate) OBJECT(cublasLtMatmulPreferenceCreate) OBJECT(cublasLtMatrixLayoutCreate)
FREES(cublasLtMatmulDescDestroy) FREES(cublasLtMatmulPreferenceDestroy) FREES(cublasLtMatrixLayoutDestroy)
SUCCEEDS(cublasLtMatmulDescSetAttribute) SUCCEEDS(cublasLtMatmulPreferenceSetAttribute) SUCCEEDS(cublasLtMatrixLayoutSetAttribute)
struct Heuristic { uint64_t algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; };
int cublasLtMatmulAlgoGetHeuristic(void *, void *, void *, void *, void *, void *, void *, int wanted, Heuristic *found, int *count) {
    memset(found, 0, sizeof *found);
    *count = wanted > 0;
    return 0;
}
int cublasLtMatmul(void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, size_t, void *stream) {
    return run(stream, "cublasLtMatmul");
}

// ---- cuDNN: a plan knows by the operations of its graph what it would compute

int cudnnCreate(void **handle) { return made("cudnnCreate", handle); }
int cudnnSetStream(Handle *handle, void *stream) { handle->stream = stream; return 0; }
int cudnnGetStream(Handle *handle, void **stream) { *stream = handle->stream; return 0; }
int cudnnBackendCreateDescriptor(int kind, Descriptor **made) { *made = new Descriptor{kind, ""}; return 0; }
int cudnnBackendDestroyDescriptor(Descriptor *gone) { delete gone; return 0; }
int cudnnBackendFinalize(Descriptor *of) {
    ALONE;
    if (of->kind == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) device::count("cuDNN plan");
    return 0;
}
int cudnnBackendSetAttribute(Descriptor *of, int attribute, int type, int64_t count, const void *value) {
    if (of->kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) of->work = "cuDNN convolution";
    if (of->kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) of->work = "cuDNN convolution, gradient of its input";
    if (of->kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR) of->work = "cuDNN convolution, gradient of its weights";
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR && count > 0)
        switch (attribute) {
            case CUDNN_ATTR_OPERATIONGRAPH_OPS: case CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH: case CUDNN_ATTR_ENGINE_OPERATION_GRAPH:
            case CUDNN_ATTR_ENGINECFG_ENGINE: case CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG:
                of->work = (*static_cast<Descriptor *const *>(value))->work;
        }
    return 0;
}
int cudnnBackendGetAttribute(Descriptor *of, int attribute, int type, int64_t wanted, int64_t *count, void *value) {
    int64_t found = 0;
    if (attribute == CUDNN_ATTR_ENGINEHEUR_RESULTS) {  // two engines, so that there is a choice
        found = wanted == 0 ? 2 : wanted < 2 ? wanted : 2;
        for (int64_t each = 0; value && each < found && wanted; ++each) static_cast<Descriptor **>(value)[each]->work = of->work;
    } else if (attribute == CUDNN_ATTR_ENGINECFG_ENGINE) {
        found = 1;
        if (value) (*static_cast<Descriptor **>(value))->work = of->work;
    } else if (attribute == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        found = 1;
        *static_cast<int64_t *>(value) = 1 << 20;
    } else if (type == CUDNN_TYPE_INT64 && wanted == 1 && value) {
        *static_cast<int64_t *>(value) = 0;
    }
    if (count) *count = found;
    return 0;
}
int cudnnBackendExecute(Handle *handle, Descriptor *plan) { return run(handle->stream, plan->work.empty() ? "cuDNN graph" : plan->work); }
OBJECT(cudnnCreateTensorDescriptor) OBJECT(cudnnCreateFilterDescriptor) OBJECT(cudnnCreateConvolutionDescriptor) OBJECT(cudnnCreateActivationDescriptor)
FREES(cudnnDestroyTensorDescriptor) FREES(cudnnDestroyFilterDescriptor) FREES(cudnnDestroyConvolutionDescriptor) FREES(cudnnDestroyActivationDescriptor)
SUCCEEDS(cudnnSetTensorNdDescriptor) SUCCEEDS(cudnnSetFilterNdDescriptor)
int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void *, int, int, void *, void *, void *, void *, void *, size_t *bytes) { *bytes = 0; return 0; }
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void *, int, int, void *, void *, void *, void *, void *, void *, void *, size_t *bytes) { *bytes = 0; return 0; }
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void *, int, int, void *, void *, size_t *bytes) { *bytes = 0; return 0; }
RUNS(cudnnBatchNormalizationForwardTrainingEx) RUNS(cudnnBatchNormalizationBackwardEx) RUNS(cudnnBatchNormalizationForwardInference)

// ---- the driver: what the stub of NVRTC links to, and whether a context is there

int cuDevicePrimaryCtxGetState(int, unsigned *flags, int *active) { *flags = 0, *active = 1; return 0; }
int cuDevicePrimaryCtxRetain(void **context) { *context = reinterpret_cast<void *>(16); return 0; }
int cuCtxGetCurrent(void **context) { return cuDevicePrimaryCtxRetain(context); }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDriverGetVersion(int *version) { *version = device::setting("STAND_IN_DRIVER", 13000); return 0; }
int cuDeviceGetAttribute(int *value) { *value = 1; return 0; }
int cuFuncGetAttribute(int *value) { *value = 1; return 0; }
int cuGetErrorString(int, const char **text) { *text = "an error of the stand-in"; return 0; }
SUCCEEDS(cuInit) SUCCEEDS(cuCtxSetCurrent) SUCCEEDS(cuFuncSetAttribute) SUCCEEDS(cuFuncSetCacheConfig) SUCCEEDS(cuLinkAddData_v2)
SUCCEEDS(cuLinkComplete) SUCCEEDS(cuLinkCreate_v2) SUCCEEDS(cuModuleUnload) SUCCEEDS(cuPointerGetAttribute) SUCCEEDS(cuTensorMapEncodeTiled)
SUCCEEDS(cuModuleGetFunction) SUCCEEDS(cuModuleLoad) SUCCEEDS(cuModuleLoadData) SUCCEEDS(cuModuleLoadDataEx)
SUCCEEDS(cuLaunchKernel) SUCCEEDS(cuLaunchCooperativeKernel) SUCCEEDS(cuOccupancyMaxActiveBlocksPerMultiprocessor)
}
