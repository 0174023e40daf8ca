// 3x3 convolutions (padding 1, stride 1 or 2) of bfloat16 tensors on one thread: forward, gradient
// of the data, gradient of the weights. Tensors are channels-last, [image][row][column][channel];
// channels are multiples of 16. Sums are kept in fp32, in an order that depends on the shape alone.
//
// Everything runs on one instruction: vdpbf16ps multiplies 16 pairs of bfloat16 and adds each pair
// of products to one of 16 fp32 sums. In the forward pass a pair is two input channels of a pixel;
// in the gradient of the weights it is the same pixel of two images, so that one arrangement of the
// data serves every shift of the 3x3 window. No tensor is padded: what would be multiplied by
// zeros at an edge is left out. Denormal numbers count as zero, as the instruction has it.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define HAVE_BF16 1
#include <immintrin.h>
#else
#define HAVE_BF16 0
#endif

namespace {

constexpr int BLOCK = 16;  // output channels in a vector of sums

#if HAVE_BF16

using Bits = std::uint16_t;

// Scratch memory of a thread, kept from call to call.
class Scratch {
    void* memory = nullptr;
    std::size_t size = 0;

public:
    ~Scratch() { std::free(memory); }

    void* take(std::size_t bytes) {  // null where there is not that much
        if (bytes > size) {
            std::free(memory);
            size = (bytes + 63) / 64 * 64;
            memory = std::aligned_alloc(64, size);
            if (memory == nullptr) size = 0;
        }
        return memory;
    }
};

thread_local Scratch scratch;

inline __m512bh pairs(__m512i bits) { return (__m512bh)bits; }

// The pair of bfloat16 at `at`, 16 times.
inline __m512bh repeat(const void* at) {
    int pair;
    std::memcpy(&pair, at, sizeof pair);
    return pairs(_mm512_set1_epi32(pair));
}

// Hides from the compiler how a pointer came about: it would otherwise keep a pointer for every pixel
// of a tile, more than there are registers.
template <typename T>
inline T* opaque(T* pointer) {
    asm("" : "+r"(pointer));
    return pointer;
}

// ---- Forward, and the gradient of the data ------------------------------------------------------
//
// Both are y[i] = sum over k of w[k] x[p] where DOWN * i + k - 1 = UP * p, in each direction. The
// forward pass has DOWN = stride, UP = 1; the gradient of the data DOWN = 1, UP = stride, with the
// weights turned around and input and output channels exchanged.

struct Map {
    long height, width, channels;
    long size() const { return height * width * channels; }
};

// The images that a convolution with this stride makes of others, with so many channels.
Map behind(const Map& in, long stride, long channels) {
    return {(in.height - 1) / stride + 1, (in.width - 1) / stride + 1, channels};
}

// Steps between weights, in elements.
struct Strides {
    long output, input, row, column;
};

// What one input row adds to a tile: WIDE neighbouring outputs of a row in each of IMAGES images, 16
// channels. A pixel is read once and multiplied by the weights of all the k it meets. Pixels outside
// low ... high do not exist; if the tile is WHOLE, those can only be the first and the last.
template <int DOWN, int UP, int WIDE, int IMAGES, bool WHOLE>
inline void tile_row(const Bits* x, const long* image, long channels, const Bits* weights, int low, int high,
                     __m512 (&sum)[IMAGES][WIDE]) {
    constexpr int FIRST = UP == 1 ? -1 : 0, LAST = (DOWN * (WIDE - 1) + 1) / UP;
    for (long c = 0; c < channels; c += 2, weights += 3 * 2 * BLOCK) {
        __m512bh w[3];
        for (int k = 0; k < 3; ++k) w[k] = pairs(_mm512_load_si512(weights + k * 2 * BLOCK));
#pragma GCC unroll 16
        for (int g = 0; g < IMAGES; ++g) {
            const Bits* pixel = x + image[g] + FIRST * channels + c;
#pragma GCC unroll 40
            for (int p = FIRST; p <= LAST; ++p) {
                const bool edge = !WHOLE || p < 0 || p == LAST;
                if (!edge || (p >= low && p <= high)) {
                    const __m512bh both = repeat(pixel);
#pragma GCC unroll 3
                    for (int k = 0; k < 3; ++k) {
                        const int i = (UP * p + 1 - k) / DOWN;
                        if (DOWN * i + k - 1 == UP * p && i >= 0 && i < WIDE)
                            sum[g][i] = _mm512_dpbf16_ps(sum[g][i], w[k], both);
                    }
                }
                pixel = opaque(pixel + channels);
            }
        }
    }
}

template <int DOWN, int UP, int WIDE, int IMAGES, bool WHOLE>
void tile(const Bits* x, const long* image, const Map& in, const Bits* weights, Bits* y, const long* target,
          const Map& out, long row, long column) {
    const long first = DOWN * column / UP;
    const int low = first > 0 ? -1 : 0;
    const int high = static_cast<int>(std::min(in.width - 1 - first, 1000L));
    __m512 sum[IMAGES][WIDE];
#pragma GCC unroll 16
    for (int g = 0; g < IMAGES; ++g)
#pragma GCC unroll 16
        for (int i = 0; i < WIDE; ++i) sum[g][i] = _mm512_setzero_ps();
    for (int k = 0; k < 3; ++k) {
        const long upper = DOWN * row + k - 1;
        if (upper < 0 || upper % UP || upper / UP >= in.height) continue;
        tile_row<DOWN, UP, WIDE, IMAGES, WHOLE>(x + (upper / UP * in.width + first) * in.channels, image, in.channels,
                                                weights + k * in.channels * 3 * BLOCK, low, high, sum);
    }
    Bits* to = y + (row * out.width + column) * out.channels;
#pragma GCC unroll 16
    for (int g = 0; g < IMAGES; ++g)
#pragma GCC unroll 16
        for (int i = 0; i < WIDE; ++i)
            if (WHOLE || column + i < out.width)
                _mm256_storeu_si256((__m256i*)(to + target[g] + i * out.channels),
                                    (__m256i)_mm512_cvtneps_pbh(sum[g][i]));
}

// Several images at a time, so that narrow maps fill a tile as well. A block of output channels goes
// over all rows before the next: its weights then stay in the nearest cache.
template <int DOWN, int UP, int WIDE, int IMAGES>
void sweep(const Bits* x, const Map& in, const Bits* weights, Bits* y, const Map& out, long images) {
    for (long n = 0; n < images; n += IMAGES) {
        long image[IMAGES], target[IMAGES];
        for (int g = 0; g < IMAGES; ++g) {  // for want of another image the last one is done again
            image[g] = std::min(n + g, images - 1) * in.size();
            target[g] = std::min(n + g, images - 1) * out.size();
        }
        for (long block = 0; block < out.channels; block += BLOCK) {
            const Bits* w = weights + block * 9 * in.channels;
            for (long row = 0; row < out.height; ++row) {
                long column = 0;
                for (; column + WIDE <= out.width; column += WIDE)
                    tile<DOWN, UP, WIDE, IMAGES, true>(x, image, in, w, y + block, target, out, row, column);
                if (column < out.width)
                    tile<DOWN, UP, WIDE, IMAGES, false>(x, image, in, w, y + block, target, out, row, column);
            }
        }
    }
}

template <int DOWN, int UP>
void convolve(const Bits* x, const Map& in, const Bits* weights, Bits* y, const Map& out, long images) {
    if (out.width > 8)
        sweep<DOWN, UP, 16, 1>(x, in, weights, y, out, images);
    else if (out.width > 4)
        sweep<DOWN, UP, 8, 2>(x, in, weights, y, out, images);
    else
        sweep<DOWN, UP, 4, 4>(x, in, weights, y, out, images);
}

// bfloat16 weights as the tiles read them: [block of outputs][row][pair of inputs][column][output][2].
Bits* packed(const float* weights, Strides at, long inputs, long outputs) {
    Bits* const start = static_cast<Bits*>(scratch.take(9 * inputs * outputs * sizeof(Bits)));
    if (start == nullptr) return nullptr;
    Bits* to = start;
    for (long block = 0; block < outputs; block += BLOCK)
        for (int kh = 0; kh < 3; ++kh)
            for (long c = 0; c < inputs; c += 2)
                for (int kw = 0; kw < 3; ++kw, to += 2 * BLOCK) {
                    const float* from = weights + block * at.output + c * at.input + kh * at.row + kw * at.column;
                    alignas(64) float even[BLOCK], odd[BLOCK];
                    for (int o = 0; o < BLOCK; ++o) {
                        even[o] = from[o * at.output];
                        odd[o] = from[o * at.output + at.input];
                    }
                    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_load_ps(even)));
                    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_load_ps(odd)));
                    _mm512_store_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
                }
    return start;
}

// ---- Gradient of the weights --------------------------------------------------------------------

constexpr int CHUNK = 8;  // input channels whose sums, for 3 columns of the window, fill the registers

// Two images, pixel by pixel: [group of WIDE channels][pixel][channel][2]; `second` may be null.
template <int WIDE>
void interleave(const Bits* first, const Bits* second, long pixels, long channels, Bits* to) {
    alignas(64) Bits order[32];
    for (int i = 0; i < 32; ++i) order[i] = static_cast<Bits>(i / 2 + i % 2 * 16);
    const __m512i index = _mm512_load_si512(order);
    for (long pixel = 0; pixel < pixels; ++pixel)
        for (long c = 0; c < channels; c += 16) {
            const long at = pixel * channels + c;
            const __m256i a = _mm256_loadu_si256((const __m256i*)(first + at));
            const __m256i b =
                second == nullptr ? _mm256_setzero_si256() : _mm256_loadu_si256((const __m256i*)(second + at));
            const __m512i both = _mm512_permutexvar_epi16(index, _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
            Bits* here = to + (c * pixels + pixel * WIDE) * 2;
            if (WIDE == 16) {
                _mm512_store_si512(here, both);
            } else {
                _mm256_store_si256((__m256i*)here, _mm512_castsi512_si256(both));
                _mm256_store_si256((__m256i*)(here + pixels * WIDE * 2), _mm512_extracti64x4_epi64(both, 1));
            }
        }
}

// Images that are interleaved next, fetched into the cache little by little beside the arithmetic:
// interleaving alone would wait for memory.
struct Ahead {
    const char *at, *end;

    Ahead(const Bits* data, long first, long last)
        : at(reinterpret_cast<const char*>(data + first)), end(reinterpret_cast<const char*>(data + last)) {}

    void fetch() {
        for (int line = 0; line < 8 && at < end; ++line, at += 64) _mm_prefetch(at, _MM_HINT_T0);
    }
};

using Sums = __m512[3][CHUNK];

// What one pixel of x adds. dy0, dy1, dy2: the pixel of dy it meets in columns 0, 1, 2 of the window,
// K0, K1, K2: whether there is one.
template <bool K0, bool K1, bool K2>
inline void pixel_sums(const Bits* x, const Bits* dy0, const Bits* dy1, const Bits* dy2, Sums& sum) {
    const __m512bh d0 = pairs(K0 ? _mm512_load_si512(dy0) : _mm512_setzero_si512());
    const __m512bh d1 = pairs(K1 ? _mm512_load_si512(dy1) : _mm512_setzero_si512());
    const __m512bh d2 = pairs(K2 ? _mm512_load_si512(dy2) : _mm512_setzero_si512());
#pragma GCC unroll 8
    for (int c = 0; c < CHUNK; ++c) {
        const __m512bh both = repeat(x + 2 * c);
        if (K0) sum[0][c] = _mm512_dpbf16_ps(sum[0][c], d0, both);
        if (K1) sum[1][c] = _mm512_dpbf16_ps(sum[1][c], d1, both);
        if (K2) sum[2][c] = _mm512_dpbf16_ps(sum[2][c], d2, both);
    }
}

// A row of x against a row of dy. Pixel p of x meets dy[(p + 1 - k) / STRIDE] in column k; where the
// stride is 2, even pixels meet one, odd pixels two.
template <int STRIDE>
inline void row_sums(const Bits* x, long width, const Bits* dy, long out, Sums& sum) {
    constexpr long X = 2 * CHUNK, D = 2 * BLOCK;  // a pixel
    if (STRIDE == 1) {
        if (width == 1) return pixel_sums<false, true, false>(x, dy, dy, dy, sum);
        pixel_sums<true, true, false>(x, dy + D, dy, dy, sum);
        for (long p = 1; p < width - 1; ++p) {
            x += X;
            dy += D;
            pixel_sums<true, true, true>(x, dy + D, dy, dy - D, sum);
        }
        pixel_sums<false, true, true>(x + X, dy, dy + D, dy, sum);
    } else {
        for (long p = 0; p < out - 1; ++p, x += 2 * X, dy += D) {
            pixel_sums<false, true, false>(x, dy, dy, dy, sum);
            pixel_sums<true, false, true>(x + X, dy + D, dy, dy, sum);
        }
        pixel_sums<false, true, false>(x, dy, dy, dy, sum);
        if (width == 2 * out) pixel_sums<false, false, true>(x + X, dy, dy, dy, sum);
    }
}

// Adds what `count` pairs of images give one block of outputs, one chunk of inputs, one window row.
template <int STRIDE>
void add_sums(const Bits* x, const Map& in, const Bits* dy, const Map& out, long count, int kh,
              Ahead& next_x, Ahead& next_dy, float* total) {
    const long rows = in.width * CHUNK * 2, lines = out.width * BLOCK * 2;
    const long start = kh == 0 ? 1 : 0, end = std::min(out.height, (in.height - kh + STRIDE) / STRIDE);
    Sums sum;
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k)
#pragma GCC unroll 8
        for (int c = 0; c < CHUNK; ++c) sum[k][c] = _mm512_setzero_ps();
    for (long n = 0; n < count; ++n)
        for (long row = start; row < end; ++row) {
            next_x.fetch();
            next_dy.fetch();
            row_sums<STRIDE>(x + n * in.size() * 2 + (STRIDE * row + kh - 1) * rows, in.width,
                             dy + n * out.size() * 2 + row * lines, out.width, sum);
        }
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k)
#pragma GCC unroll 8
        for (int c = 0; c < CHUNK; ++c) {
            float* here = total + (c * 3 + k) * BLOCK;
            _mm512_store_ps(here, _mm512_add_ps(_mm512_load_ps(here), sum[k][c]));
        }
}

// Pixels of dy, at least, behind a sum that is added to the total: enough to make little of the cost
// of adding it, few enough for their images to stay in the cache.
constexpr long PIXELS = 256;

template <int STRIDE>
bool weight_gradient(const Bits* dy, const Bits* x, float* dw, long images, const Map& in, const Map& out, Strides at) {
    const long inputs = in.size(), outputs = out.size();
    const long group = std::min((images + 1) / 2, std::max(1L, PIXELS / (out.height * out.width)));
    const long size = 9 * in.channels * out.channels;
    float* const total = static_cast<float*>(scratch.take((size + group * (inputs + outputs)) * sizeof(float)));
    if (total == nullptr) return false;
    Bits* const xs = reinterpret_cast<Bits*>(total + size);
    Bits* const dys = xs + 2 * group * inputs;
    std::memset(total, 0, size * sizeof(float));
    for (long n = 0; n < images; n += 2 * group) {
        const long count = std::min(group, (images - n + 1) / 2);
        for (long pair = 0; pair < count; ++pair) {
            const long one = n + 2 * pair;
            const bool two = one + 1 < images;
            interleave<CHUNK>(x + one * inputs, two ? x + (one + 1) * inputs : nullptr, in.height * in.width,
                              in.channels, xs + 2 * pair * inputs);
            interleave<BLOCK>(dy + one * outputs, two ? dy + (one + 1) * outputs : nullptr, out.height * out.width,
                              out.channels, dys + 2 * pair * outputs);
        }
        const long next = std::min(images, n + 2 * count), last = std::min(images, next + 2 * group);
        Ahead next_x(x, next * inputs, last * inputs), next_dy(dy, next * outputs, last * outputs);
        float* to = total;
        for (long block = 0; block < out.channels; block += BLOCK)
            for (int kh = 0; kh < 3; ++kh)
                for (long c = 0; c < in.channels; c += CHUNK, to += CHUNK * 3 * BLOCK)
                    add_sums<STRIDE>(xs + c * in.height * in.width * 2, in, dys + block * out.height * out.width * 2,
                                     out, count, kh, next_x, next_dy, to);
    }
    const float* from = total;
    for (long block = 0; block < out.channels; block += BLOCK)
        for (int kh = 0; kh < 3; ++kh)
            for (long c = 0; c < in.channels; ++c)
                for (int kw = 0; kw < 3; ++kw)
                    for (int o = 0; o < BLOCK; ++o)
                        dw[(block + o) * at.output + c * at.input + kh * at.row + kw * at.column] = *from++;
    return true;
}

bool provided(long images, const Map& in, long outputs, long stride) {
    return images > 0 && in.height > 0 && in.width > 0 && in.channels > 0 && in.channels % BLOCK == 0 && outputs > 0 &&
           outputs % BLOCK == 0 && (stride == 1 || stride == 2);
}

#endif

}  // namespace

// x, dx are [images][height][width][inputs], y, dy [images][ceil(height / stride)][ceil(width /
// stride)][outputs], all bfloat16; the weights and their gradient are fp32, [outputs][3][3][inputs].
// Each returns 1 if the work was done, and 0 where nothing was: for a shape that is not provided for,
// or for want of memory.
extern "C" {

int direct_available() { return HAVE_BF16; }

#if HAVE_BF16

int direct_bf16_forward(const Bits* x, const float* w, Bits* y, long images, long height, long width, long inputs, long outputs,
                 long stride) {
    const Map in{height, width, inputs};
    if (!provided(images, in, outputs, stride)) return 0;
    const Bits* weights = packed(w, {9 * inputs, 1, 3 * inputs, inputs}, inputs, outputs);
    if (weights == nullptr) return 0;
    (stride == 1 ? convolve<1, 1> : convolve<2, 1>)(x, in, weights, y, behind(in, stride, outputs), images);
    return 1;
}

int direct_bf16_data_gradient(const Bits* dy, const float* w, Bits* dx, long images, long height, long width, long inputs,
                       long outputs, long stride) {
    const Map in{height, width, inputs};
    if (!provided(images, in, outputs, stride)) return 0;
    const Strides turned{1, 9 * inputs, -3 * inputs, -inputs};  // read from the last weight backwards
    const Bits* weights = packed(w + 8 * inputs, turned, outputs, inputs);
    if (weights == nullptr) return 0;
    (stride == 1 ? convolve<1, 1> : convolve<1, 2>)(dy, behind(in, stride, outputs), weights, dx, in, images);
    return 1;
}

int direct_bf16_weight_gradient(const Bits* x, const Bits* dy, float* dw, long images, long height, long width, long inputs,
                         long outputs, long stride) {
    const Map in{height, width, inputs}, out = behind(in, stride, outputs);
    if (!provided(images, in, outputs, stride)) return 0;
    return (stride == 1 ? weight_gradient<1> : weight_gradient<2>)(dy, x, dw, images, in, out,
                                                                   {9 * inputs, 1, 3 * inputs, inputs});
}

#endif
}
