// 3x3 convolutions with padding 1 and both their gradients on one thread, by Winograd's method: of fp32
// with stride 1 or 2, of bfloat16 with stride 1; tensors are channels-last. A tile of the input is
// transformed to a few elements, each of them is multiplied with its own matrix [inputs, outputs] of
// transformed weights, and the products are transformed to a tile of the output. A tile of 4x4 outputs
// takes 36 products for each pair of channels instead of 144 (stride 1), a tile of 2x2 takes 25 instead
// of 36 (stride 2). All of it is fp32; bfloat16 is rounded to once, on writing.
//
// A block of tiles goes through all three steps while it stays in the cache. 16 channels are one
// register everywhere, so channels are multiples of 16. Sums have a fixed order, which depends
// neither on the run nor on the place of an image in the batch.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__AVX512F__)
#include <immintrin.h>

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define HAVE_BF16 1
#else
#define HAVE_BF16 0
#endif

namespace {

#define INLINE inline __attribute__((always_inline))

using Lanes = __m512;
constexpr int LANES = 16;
constexpr long TILES = 512;         // most tiles in a block
constexpr long CACHE = 128 * 1024;  // bytes of a block, where the weights are not much more

INLINE Lanes all(float value) { return _mm512_set1_ps(value); }
INLINE Lanes scaled(float factor, Lanes x) { return _mm512_mul_ps(all(factor), x); }
INLINE Lanes plus(float factor, Lanes x, Lanes y) { return _mm512_fmadd_ps(all(factor), x, y); }

// A one-dimensional scheme says, for a tile of one row, how `outputs` come from `samples` through
// `elements` products; two dimensions apply it to columns, then to rows.
//   input:    samples -> elements       output:   elements -> outputs
//   weight:   3 weights -> elements
//   gradient: the transpose of output   gathered: the transpose of weight

// Stride 1. The products are the values of polynomials at 0, P, -P, Q, -Q and infinity. These
// points halve the rounding error of the customary 1 and 2, and all constants are exact.
struct Same {
    static constexpr int samples = 6, elements = 6, outputs = 4, step = 4, origin = -1;
    static constexpr float P = 0.75f, Q = 1.5f, P2 = P * P, Q2 = Q * Q;
    static constexpr float zero = 1 / (P2 * Q2);  // factors of the weights that undo Lagrange's denominators
    static constexpr float at_p = 1 / (2 * P2 * (P2 - Q2)), at_q = 1 / (2 * Q2 * (Q2 - P2));

    static INLINE void input(const Lanes* d, Lanes* v) {
        const Lanes even_p = plus(-Q2, d[2], d[4]), odd_p = plus(-Q2, d[1], d[3]);
        const Lanes even_q = plus(-P2, d[2], d[4]), odd_q = plus(-P2, d[1], d[3]);
        v[0] = plus(P2 * Q2, d[0], plus(-P2 - Q2, d[2], d[4]));
        v[1] = plus(P, odd_p, even_p);
        v[2] = plus(-P, odd_p, even_p);
        v[3] = plus(Q, odd_q, even_q);
        v[4] = plus(-Q, odd_q, even_q);
        v[5] = plus(P2 * Q2, d[1], plus(-P2 - Q2, d[3], d[5]));
    }
    static INLINE void output(const Lanes* m, Lanes* y) {
        const Lanes sum_p = m[1] + m[2], gap_p = m[1] - m[2], sum_q = m[3] + m[4], gap_q = m[3] - m[4];
        y[0] = m[0] + (sum_p + sum_q);
        y[1] = plus(Q, gap_q, scaled(P, gap_p));
        y[2] = plus(Q2, sum_q, scaled(P2, sum_p));
        y[3] = plus(Q2 * Q, gap_q, plus(P2 * P, gap_p, m[5]));
    }
    static INLINE void weight(const Lanes* g, Lanes* u) {
        const Lanes even_p = plus(P2, g[2], g[0]), even_q = plus(Q2, g[2], g[0]);
        u[0] = scaled(zero, g[0]);
        u[1] = scaled(at_p, plus(P, g[1], even_p));
        u[2] = scaled(at_p, plus(-P, g[1], even_p));
        u[3] = scaled(at_q, plus(Q, g[1], even_q));
        u[4] = scaled(at_q, plus(-Q, g[1], even_q));
        u[5] = g[2];
    }
    static INLINE void gradient(const Lanes* y, Lanes* m) {
        const Lanes even_p = plus(P2, y[2], y[0]), odd_p = plus(P2, y[3], y[1]);
        const Lanes even_q = plus(Q2, y[2], y[0]), odd_q = plus(Q2, y[3], y[1]);
        m[0] = y[0];
        m[1] = plus(P, odd_p, even_p);
        m[2] = plus(-P, odd_p, even_p);
        m[3] = plus(Q, odd_q, even_q);
        m[4] = plus(-Q, odd_q, even_q);
        m[5] = y[3];
    }
    static INLINE void gathered(const Lanes* u, Lanes* g) {
        const Lanes sum_p = scaled(at_p, u[1] + u[2]), gap_p = scaled(at_p, u[1] - u[2]);
        const Lanes sum_q = scaled(at_q, u[3] + u[4]), gap_q = scaled(at_q, u[3] - u[4]);
        g[0] = plus(zero, u[0], sum_p + sum_q);
        g[1] = plus(Q, gap_q, scaled(P, gap_p));
        g[2] = plus(Q2, sum_q, plus(P2, sum_p, u[5]));
    }
};

// Stride 2. Samples of one parity meet the middle weight alone, those of the other the outer two,
// as a stride-1 convolution of two weights: two outputs of it take three products, at 0, 1, infinity.
struct Halved {
    static constexpr int samples = 5, elements = 5, outputs = 2, step = 4, origin = -1;

    static INLINE void input(const Lanes* d, Lanes* v) {
        v[0] = d[1], v[1] = d[3];
        v[2] = d[0] - d[2], v[3] = d[2], v[4] = d[4] - d[2];
    }
    static INLINE void output(const Lanes* m, Lanes* y) {
        y[0] = m[0] + (m[2] + m[3]);
        y[1] = m[1] + (m[3] + m[4]);
    }
    static INLINE void weight(const Lanes* g, Lanes* u) {
        u[0] = u[1] = g[1];
        u[2] = g[0], u[3] = g[0] + g[2], u[4] = g[2];
    }
    static INLINE void gradient(const Lanes* y, Lanes* m) {
        m[0] = m[2] = y[0];
        m[1] = m[4] = y[1];
        m[3] = y[0] + y[1];
    }
    static INLINE void gathered(const Lanes* u, Lanes* g) {
        g[0] = u[2] + u[3], g[1] = u[0] + u[1], g[2] = u[3] + u[4];
    }
};

// The data gradient of stride 2, with turned weights: four samples of dx from three of dy.
struct Doubled {
    static constexpr int samples = 3, elements = 5, outputs = 4, step = 2, origin = 0;

    static INLINE void input(const Lanes* d, Lanes* v) {
        v[0] = d[0], v[1] = d[1];
        v[2] = d[0] - d[1], v[3] = d[1], v[4] = d[2] - d[1];
    }
    static INLINE void output(const Lanes* m, Lanes* y) {
        y[0] = m[0], y[2] = m[1];
        y[1] = m[2] + m[3], y[3] = m[3] + m[4];
    }
    static INLINE void weight(const Lanes* g, Lanes* u) { Halved::weight(g, u); }
};

// A transform of columns, then of rows: read(i, j) gives, write(i, j, value) takes. The loops
// unroll, and most of `half` lives in registers.
template <int FROM, int TO, typename Transform, typename Read, typename Write>
INLINE void both_ways(Transform transform, Read read, Write write) {
    Lanes half[TO][FROM], to[TO];
#pragma GCC unroll 8
    for (int j = 0; j < FROM; ++j) {
        Lanes from[FROM];
#pragma GCC unroll 8
        for (int i = 0; i < FROM; ++i) from[i] = read(i, j);
        transform(from, to);
#pragma GCC unroll 8
        for (int i = 0; i < TO; ++i) half[i][j] = to[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < TO; ++i) {
        transform(half[i], to);
#pragma GCC unroll 8
        for (int j = 0; j < TO; ++j) write(i, j, to[j]);
    }
}

// Memory that grows and is kept from call to call.
class Scratch {
public:
    float* get(std::size_t floats) {
        if (floats > size) {
            std::free(data);
            size = (floats + LANES - 1) / LANES * LANES;
            data = static_cast<float*>(std::aligned_alloc(64, size * sizeof(float)));
            if (!data) {
                size = 0;
                throw std::bad_alloc();
            }
            std::memset(data, 0, size * sizeof(float));  // tiles a block lacks are computed, too
        }
        return data;
    }
    ~Scratch() { std::free(data); }

private:
    float* data = nullptr;
    std::size_t size = 0;
};
thread_local Scratch scratch;

// Pixels are fp32 or bfloat16; everything between reading and writing them is fp32.
INLINE Lanes load(const float* from) { return _mm512_loadu_ps(from); }
INLINE Lanes load(const float* from, __mmask16 inside) { return _mm512_maskz_loadu_ps(inside, from); }
INLINE void store(float* to, Lanes value) { _mm512_storeu_ps(to, value); }

#if HAVE_BF16
struct Bfloat16 {
    unsigned short bits;
};
INLINE Lanes wide(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
INLINE Lanes load(const Bfloat16* from) { return wide(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }
INLINE Lanes load(const Bfloat16* from, __mmask16 inside) { return wide(_mm256_maskz_loadu_epi16(inside, from)); }
INLINE void store(Bfloat16* to, Lanes value) {  // to nearest, ties to even
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(value));
}
#endif

template <typename T>
struct Images {
    T* data;
    long height, width, channels;
    T* at(long image, long row, long column) const { return data + ((image * height + row) * width + column) * channels; }
};

// The tiles of a batch, in the order of memory.
struct Tiles {
    long images, down, across;
    long count() const { return images * down * across; }

    template <typename Body>  // body(place in the block, image, tile's row, tile's column)
    INLINE void each(long first, long last, Body body) const {
        long column = first % across, row = first / across % down, image = first / across / down;
        for (long tile = first; tile < last; ++tile) {
            body(tile - first, image, row, column);
            if (++column == across) column = 0, ++row;
            if (row == down) row = 0, ++image;
        }
    }
};

template <typename Scheme>
Tiles tiles_over(long images, long height, long width) {  // of the output
    return {images, (height + Scheme::outputs - 1) / Scheme::outputs, (width + Scheme::outputs - 1) / Scheme::outputs};
}

// Transforms the N by N pixels from (row, column) on, zeros outside the image, to E by E elements:
// those of a register of channels go to place(block) and every `step` floats behind it.
template <int N, int E, typename Pixel, typename Transform, typename Place>
INLINE void read_tile(Transform transform, const Images<const Pixel>& x, const Pixel* zeros, long image, long row, long column, long step, Place place) {
    const Pixel* rows[N];
    __mmask16 inside[N];
    bool edge = false;
    for (int i = 0; i < N; ++i) {
        const bool row_in = row + i >= 0 && row + i < x.height, column_in = column + i >= 0 && column + i < x.width;
        rows[i] = row_in ? x.at(image, row + i, column) : zeros;
        inside[i] = column_in ? 0xffff : 0;
        edge |= !row_in || !column_in;
    }
    for (long block = 0; block * LANES < x.channels; ++block) {
        float* to = place(block);
        const auto write = [&](int i, int j, Lanes value) { _mm512_store_ps(to + (i * E + j) * step, value); };
        const auto from = [&](int i, int j) { return rows[i] + j * x.channels + block * LANES; };
        if (edge)  // an empty mask reads nothing and gives zeros
            both_ways<N, E>(transform, [&](int i, int j) { return load(from(i, j), inside[j]); }, write);
        else
            both_ways<N, E>(transform, [&](int i, int j) { return load(from(i, j)); }, write);
    }
}

// u[element][group of CB * 16 outputs][input][CB * 16]; w is [outputs][3][3][inputs], or, turned by
// half a circle for the data gradient, [inputs][3][3][outputs].
template <typename Scheme>
void transform_weights(const float* w, long inputs, long outputs, bool turned, int cb, float* u) {
    constexpr int E = Scheme::elements;
    alignas(64) float taps[9][LANES][LANES];  // of 16 inputs and 16 outputs: outputs in the lanes
    for (long o = 0; o < outputs; o += LANES)
        for (long i = 0; i < inputs; i += LANES) {
            for (int tap = 0; tap < 9; ++tap)
                for (int a = 0; a < LANES; ++a)
                    for (int b = 0; b < LANES; ++b)
                        if (turned)
                            taps[8 - tap][a][b] = w[((i + a) * 9 + tap) * outputs + o + b];
                        else
                            taps[tap][b][a] = w[((o + a) * 9 + tap) * inputs + i + b];
            const long block = o / LANES;
            for (int a = 0; a < LANES; ++a) {
                float* to = u + ((block / cb * inputs + i + a) * cb + block % cb) * LANES;
                both_ways<3, E>(
                    Scheme::weight, [&](int k, int j) { return _mm512_load_ps(taps[k * 3 + j][a]); },
                    [&](int k, int j, Lanes value) { _mm512_store_ps(to + (k * E + j) * inputs * outputs, value); });
            }
        }
}

// m[CB][T][16] = v[inputs / 16][T][16] * u[inputs][CB * 16]: T tiles by CB * 16 outputs in registers.
// m may be v: it is written last.
template <int CB, int T>
INLINE void product(const float* v, const float* u, long inputs, float* m) {
    Lanes sum[T][CB];
    for (int t = 0; t < T; ++t)
        for (int c = 0; c < CB; ++c) sum[t][c] = _mm512_setzero_ps();
    for (long i = 0; i < inputs; i += LANES, v += T * LANES)
        for (int k = 0; k < LANES; ++k, u += CB * LANES) {
            Lanes w[CB];
            for (int c = 0; c < CB; ++c) w[c] = _mm512_load_ps(u + c * LANES);
#pragma GCC unroll 16
            for (int t = 0; t < T; ++t) {
                const Lanes x = all(v[t * LANES + k]);
#pragma GCC unroll 4
                for (int c = 0; c < CB; ++c) sum[t][c] = _mm512_fmadd_ps(x, w[c], sum[t][c]);
            }
        }
    for (int t = 0; t < T; ++t)
        for (int c = 0; c < CB; ++c) _mm512_store_ps(m + (c * T + t) * LANES, sum[t][c]);
}

// While the products are computed, the memory for the transforms around them is fetched: the
// transforms walk over short pieces of rows, which the processor does not foresee.
template <typename Pixel>
INLINE void fetch(const Pixel* const* tiles, long count, long shift, long channels) {
    constexpr long LINE = 64 / sizeof(Pixel);
    for (long t = 0; t < count; ++t)
        for (long c = 0; c < channels; c += LINE) __builtin_prefetch(tiles[t] + shift + c, 0, 3);
}

// Bytes for a block of tiles: wide layers read all weights for every block, so make those few.
inline long block_bytes(long weights) { return std::max(CACHE, weights * static_cast<long>(sizeof(float)) / 4); }

template <typename Scheme, int CB, int T, typename Pixel>
void convolve(const Tiles& tiles, const Images<const Pixel>& x, const float* w, bool turned, const Images<Pixel>& y) {
    constexpr int E = Scheme::elements, OUT = Scheme::outputs, STEP = Scheme::step;
    const long in = x.channels / LANES, out = y.channels / LANES, size = E * E * x.channels * y.channels;
    // Products replace the transformed input where a group of tiles needs no second pass over it.
    const long products = out == CB ? 0 : in * T * LANES;
    const long group = T * LANES * (out == CB ? std::max(in, out) : in + out);  // floats of T tiles
    const long wanted = block_bytes(size) / (E * E * group * static_cast<long>(sizeof(float)));
    const long groups = std::max(1L, std::min({wanted, TILES / T, (tiles.count() + T - 1) / T}));
    const long step = groups * group + LANES;  // an odd number of lines: elements do not share cache sets
    float* blank = scratch.get(Scheme::samples * x.channels + size + E * E * step);
    float* u = blank + Scheme::samples * x.channels;
    float* v = u + size;
    std::memset(blank, 0, Scheme::samples * x.channels * sizeof(float));
    const Pixel* zeros = reinterpret_cast<const Pixel*>(blank);
    transform_weights<Scheme>(w, x.channels, y.channels, turned, CB, u);
    const Pixel* here[TILES] = {};
    const Pixel* next[TILES] = {};
    for (long first = 0; first < tiles.count(); first += groups * T) {
        const long last = std::min(first + groups * T, tiles.count());
        tiles.each(first, last, [&](long tile, long image, long row, long column) {
            float* to = v + tile / T * group + tile % T * LANES;
            read_tile<Scheme::samples, E>(Scheme::input, x, zeros, image, row * STEP + Scheme::origin, column * STEP + Scheme::origin, step,
                                          [&](long block) { return to + block * T * LANES; });
            here[tile] = y.at(image, row * OUT, column * OUT);
        });
        tiles.each(last, std::min(last + groups * T, tiles.count()), [&](long tile, long image, long row, long column) {
            next[tile] = x.at(image, row * STEP, column * STEP);
        });
        for (int e = 0; e < E * E; ++e)
            for (long c = 0; c < out; c += CB)
                for (long g = 0; g * T < last - first; ++g) {
                    const int later = e - OUT * OUT;
                    if (c == 0 && later < 0)
                        fetch(here + g * T, T, (e / OUT * y.width + e % OUT) * y.channels, y.channels);
                    else if (c == 0 && later < STEP * STEP)
                        fetch(next + g * T, T, (later / STEP * x.width + later % STEP) * x.channels, x.channels);
                    float* from = v + e * step + g * group;
                    product<CB, T>(from, u + (e * out + c) * x.channels * LANES, x.channels, from + products + c * T * LANES);
                }
        tiles.each(first, last, [&](long tile, long image, long row, long column) {
            const long height = y.height - row * OUT, width = y.width - column * OUT;
            for (long block = 0; block < out; ++block) {
                const float* from = v + tile / T * group + products + (block * T + tile % T) * LANES;
                Pixel* to = y.at(image, row * OUT, column * OUT) + block * LANES;
                both_ways<E, OUT>(
                    Scheme::output, [&](int i, int j) { return _mm512_load_ps(from + (i * E + j) * step); },
                    [&](int i, int j, Lanes value) {
                        if (i < height && j < width) store(to + (i * y.width + j) * y.channels, value);
                    });
            }
        });
    }
}

// u[R][CB * 16], rows `line` floats apart, += the sum over tiles of a[tile][R] times b[CB][tile][16]
template <int CB, int R>
INLINE void outer(const float* a, const float* b, long tiles, float* u, long line) {
    Lanes sum[R][CB];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < CB; ++c) sum[r][c] = _mm512_setzero_ps();
    const float* lanes[CB];
    for (int c = 0; c < CB; ++c) lanes[c] = b + c * tiles * LANES;
    for (long t = 0; t < tiles; ++t, a += LANES) {
        Lanes x[CB];
        for (int c = 0; c < CB; ++c) x[c] = _mm512_load_ps(lanes[c] + t * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const Lanes y = all(a[r]);
#pragma GCC unroll 4
            for (int c = 0; c < CB; ++c) sum[r][c] = _mm512_fmadd_ps(y, x[c], sum[r][c]);
        }
    }
    for (int r = 0; r < R; ++r)  // blocks are summed apart: shorter sums, smaller errors
        for (int c = 0; c < CB; ++c) {
            float* to = u + r * line + c * LANES;
            _mm512_store_ps(to, _mm512_load_ps(to) + sum[r][c]);
        }
}

template <typename Scheme, int CB, int R, typename Pixel>
void correlate(const Tiles& tiles, const Images<const Pixel>& x, const Images<const Pixel>& dy, float* dw) {
    constexpr int E = Scheme::elements, OUT = Scheme::outputs, STEP = Scheme::step;
    const long in = x.channels / LANES, out = dy.channels / LANES, size = x.channels * dy.channels;
    const long wanted = block_bytes(E * E * size) / (E * E * (in + out) * LANES * static_cast<long>(sizeof(float)));
    const long most = std::min({std::max(wanted, 8L), TILES, tiles.count()});
    const long step = most * (in + out) * LANES + LANES;
    const long blank = Scheme::samples * std::max(x.channels, dy.channels);
    float* start = scratch.get(blank + E * E * (size + step));
    float* u = start + blank;
    float* v = u + E * E * size;
    std::memset(start, 0, (blank + E * E * size) * sizeof(float));
    const Pixel* zeros = reinterpret_cast<const Pixel*>(start);
    const Pixel* next_x[TILES] = {};
    const Pixel* next_dy[TILES] = {};
    for (long first = 0; first < tiles.count(); first += most) {
        const long last = std::min(first + most, tiles.count()), count = last - first;
        const long coming = std::min(most, tiles.count() - last);
        float* m = v + in * count * LANES;
        tiles.each(first, last, [&](long tile, long image, long row, long column) {
            read_tile<Scheme::samples, E>(Scheme::input, x, zeros, image, row * STEP + Scheme::origin, column * STEP + Scheme::origin, step,
                                          [&](long block) { return v + (block * count + tile) * LANES; });
            read_tile<OUT, E>(Scheme::gradient, dy, zeros, image, row * OUT, column * OUT, step,
                              [&](long block) { return m + (block * count + tile) * LANES; });
        });
        tiles.each(last, last + coming, [&](long tile, long image, long row, long column) {
            next_x[tile] = x.at(image, row * STEP, column * STEP);
            next_dy[tile] = dy.at(image, row * OUT, column * OUT);
        });
        for (int e = 0; e < E * E; ++e) {
            const int later = e - OUT * OUT;
            if (later < 0)
                fetch(next_dy, coming, (e / OUT * dy.width + e % OUT) * dy.channels, dy.channels);
            else if (later < STEP * STEP)
                fetch(next_x, coming, (later / STEP * x.width + later % STEP) * x.channels, x.channels);
            for (long o = 0; o < dy.channels; o += R)
                for (long c = 0; c < in; c += CB)
                    outer<CB, R>(m + e * step + o / LANES * count * LANES + o % LANES, v + e * step + c * count * LANES, count,
                                 u + e * size + o * x.channels + c * LANES, x.channels);
        }
    }
    for (long o = 0; o < dy.channels; ++o)
        for (long i = 0; i < x.channels; i += LANES)
            both_ways<E, 3>(
                Scheme::gathered, [&](int k, int j) { return _mm512_load_ps(u + (k * E + j) * size + o * x.channels + i); },
                [&](int k, int j, Lanes value) { _mm512_storeu_ps(dw + (o * 9 + k * 3 + j) * x.channels + i, value); });
}

// The widest group of outputs that divides them: fewer reads of the input for a multiplication.
template <typename Scheme, typename Pixel>
void convolve(long images, const Images<const Pixel>& x, const float* w, bool turned, const Images<Pixel>& y) {
    const Tiles tiles = tiles_over<Scheme>(images, y.height, y.width);
    const long blocks = y.channels / LANES;
    if (blocks % 4 == 0)
        convolve<Scheme, 4, 6>(tiles, x, w, turned, y);
    else if (blocks % 2 == 0)
        convolve<Scheme, 2, 12>(tiles, x, w, turned, y);
    else  // not 24 tiles: with 16 channels the block stays in the first-level cache
        convolve<Scheme, 1, 12>(tiles, x, w, turned, y);
}

template <typename Scheme, typename Pixel>
void correlate(long images, const Images<const Pixel>& x, const Images<const Pixel>& dy, float* dw) {
    const Tiles tiles = tiles_over<Scheme>(images, dy.height, dy.width);
    const long blocks = x.channels / LANES;
    if (blocks % 4 == 0)
        correlate<Scheme, 4, 4>(tiles, x, dy, dw);
    else if (blocks % 2 == 0)
        correlate<Scheme, 2, 8>(tiles, x, dy, dw);
    else
        correlate<Scheme, 1, 16>(tiles, x, dy, dw);
}

// The images with this many channels on either side of a convolution.
template <typename T>
Images<T> before(T* data, long height, long width, long channels) {
    return {data, height, width, channels};
}
template <typename T>
Images<T> after(T* data, long height, long width, long channels, long stride) {
    return {data, (height + stride - 1) / stride, (width + stride - 1) / stride, channels};
}

template <typename Work>
int attempt(long images, long height, long width, long inputs, long outputs, long stride, Work work) {
    if (images < 1 || height < 1 || width < 1 || inputs < LANES || outputs < LANES) return 0;
    if (inputs % LANES || outputs % LANES || (stride != 1 && stride != 2)) return 0;
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return 0;
    }
}

// Stride 2 is for fp32 alone: a direct kernel is faster for bfloat16.
template <typename Pixel>
int forward(const Pixel* x, const float* w, Pixel* y, long images, long height, long width, long inputs, long outputs, long stride) {
    return attempt(images, height, width, inputs, outputs, stride, [=] {
        const auto from = before(x, height, width, inputs);
        const auto to = after(y, height, width, outputs, stride);
        if (stride == 1) return convolve<Same>(images, from, w, false, to), true;
        if constexpr (sizeof(Pixel) == sizeof(float)) return convolve<Halved>(images, from, w, false, to), true;
        return false;
    });
}

template <typename Pixel>
int data_gradient(const Pixel* dy, const float* w, Pixel* dx, long images, long height, long width, long inputs, long outputs, long stride) {
    return attempt(images, height, width, inputs, outputs, stride, [=] {
        const auto from = after(dy, height, width, outputs, stride);
        const auto to = before(dx, height, width, inputs);
        if (stride == 1) return convolve<Same>(images, from, w, true, to), true;
        if constexpr (sizeof(Pixel) == sizeof(float)) return convolve<Doubled>(images, from, w, true, to), true;
        return false;
    });
}

template <typename Pixel>
int weight_gradient(const Pixel* x, const Pixel* dy, float* dw, long images, long height, long width, long inputs, long outputs, long stride) {
    return attempt(images, height, width, inputs, outputs, stride, [=] {
        const auto a = before(x, height, width, inputs), b = after(dy, height, width, outputs, stride);
        if (stride == 1) return correlate<Same>(images, a, b, dw), true;
        if constexpr (sizeof(Pixel) == sizeof(float)) return correlate<Halved>(images, a, b, dw), true;
        return false;
    });
}

}  // namespace

// height and width are those of x; y and dy have ceil(height / stride) by ceil(width / stride). The
// weights and their gradient are fp32, [outputs][3][3][inputs]. Each returns 1 where it did the work
// and 0, nothing written, for a shape it does not handle or for want of memory.
#define KERNELS(NAME, PIXEL)                                                                                           \
    int NAME##_forward(const PIXEL* x, const float* w, PIXEL* y, long images, long height, long width, long inputs,    \
                       long outputs, long stride) {                                                                    \
        return forward(x, w, y, images, height, width, inputs, outputs, stride);                                       \
    }                                                                                                                  \
    int NAME##_data_gradient(const PIXEL* dy, const float* w, PIXEL* dx, long images, long height, long width,         \
                             long inputs, long outputs, long stride) {                                                 \
        return data_gradient(dy, w, dx, images, height, width, inputs, outputs, stride);                               \
    }                                                                                                                  \
    int NAME##_weight_gradient(const PIXEL* x, const PIXEL* dy, float* dw, long images, long height, long width,       \
                               long inputs, long outputs, long stride) {                                               \
        return weight_gradient(x, dy, dw, images, height, width, inputs, outputs, stride);                             \
    }

extern "C" {

int winograd_available() { return 1; }
KERNELS(winograd_fp32, float)
#if HAVE_BF16
KERNELS(winograd_bf16, Bfloat16)
#endif
}

#else  // the instructions are missing: the caller computes as if there were no such library

extern "C" int winograd_available() { return 0; }

#endif
