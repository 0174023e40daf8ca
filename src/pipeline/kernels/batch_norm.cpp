// Batch normalisation fused with what follows it in a network (an addition, a ReLU), forward and
// backward, on one thread. Tensors are channels-last, that is, matrices [rows, channels].
//
// Every row of a matrix is read as often as arithmetic demands and no more: statistics are taken in
// blocks that stay in the cache (mean, then sum of squared deviations, merged in double precision by
// Chan's formula), and the ReLU and the addition ride on the pass that writes the result.
//
// Sums run over LANES independent lanes, a whole number of pixels for channels that divide LANES and
// a part of a pixel for channels that are a multiple of it; the caller sees to it that one is true.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int LANES = 64;
constexpr long BLOCK = 64;  // lines of LANES elements in a block: 16 KiB of fp32

struct Bfloat16 {
    std::uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(Bfloat16 value) {
    std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
}

inline void store(float* to, float value) { *to = value; }

inline void store(Bfloat16* to, float value) {  // to nearest, ties to even
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1);
    to->bits = static_cast<std::uint16_t>(bits >> 16);
}

// How a matrix [rows, channels] is walked: `groups` columns of LANES elements, `lines` lines each.
struct Walk {
    long groups, lines, stride;
    int fold;  // pixels in a line

    Walk(long rows, long channels)
        : groups(channels > LANES ? channels / LANES : 1),
          lines(channels > LANES ? rows : rows * channels / LANES),
          stride(channels > LANES ? channels : LANES),
          fold(channels > LANES ? 1 : static_cast<int>(LANES / channels)) {}
};

// Values of LANES / fold channels, repeated to fill the lanes.
inline void spread(const float* values, long group, int fold, float* lanes) {
    const int channels = LANES / fold;
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] = values[group * LANES + lane % channels];
}

// The gradient behind the ReLU: what is given, where the value was let through. `gate` says so after
// an addition; without one, the sign of value * scale + shift.
template <typename T, bool GATE>
inline float through(const T& given, const T* gate, long at, float value, float scale, float shift) {
    const float open = GATE ? load(gate[at]) : std::fma(value, scale, shift);
    const float g = load(given);
    return open > 0 ? g : 0.0f;
}

// BatchNorm as x * scale + shift.
void affine(long channels, const float* weight, const float* bias, float epsilon, const float* mean,
            const float* variance, float* scale, float* shift) {
    for (long c = 0; c < channels; ++c) {
        scale[c] = weight[c] / std::sqrt(variance[c] + epsilon);
        shift[c] = bias[c] - mean[c] * scale[c];
    }
}

template <typename T>
void statistics(const T* __restrict x, long rows, long channels, float* mean, float* variance) {
    const Walk walk(rows, channels);
    const int own = LANES / walk.fold;
    for (long group = 0; group < walk.groups; ++group) {
        double total_mean[LANES] = {}, total_squares[LANES] = {};
        long seen = 0;
        for (long start = 0; start < walk.lines; start += BLOCK) {
            const long lines = std::min(BLOCK, walk.lines - start);
            const T* block = x + group * LANES + start * walk.stride;
            float sum[LANES] = {}, centre[LANES], squares[LANES] = {};
            for (long line = 0; line < lines; ++line)
                for (int lane = 0; lane < LANES; ++lane)
                    sum[lane] += load(block[line * walk.stride + lane]);
            for (int lane = 0; lane < LANES; ++lane)
                centre[lane] = sum[lane] / static_cast<float>(lines);
            for (long line = 0; line < lines; ++line)
                for (int lane = 0; lane < LANES; ++lane) {
                    const float d = load(block[line * walk.stride + lane]) - centre[lane];
                    squares[lane] += d * d;
                }
            const double share = static_cast<double>(lines) / static_cast<double>(seen + lines);
            for (int lane = 0; lane < LANES; ++lane) {
                const double delta = centre[lane] - total_mean[lane];
                total_mean[lane] += delta * share;
                total_squares[lane] += squares[lane] + delta * delta * share * static_cast<double>(seen);
            }
            seen += lines;
        }
        for (int channel = 0; channel < own; ++channel) {
            double m = 0, s = 0;
            for (int pixel = 0; pixel < walk.fold; ++pixel) m += total_mean[pixel * own + channel];
            m /= walk.fold;
            for (int pixel = 0; pixel < walk.fold; ++pixel) {
                const double d = total_mean[pixel * own + channel] - m;
                s += total_squares[pixel * own + channel] + d * d * static_cast<double>(seen);
            }
            mean[group * LANES + channel] = static_cast<float>(m);
            variance[group * LANES + channel] = static_cast<float>(s / (static_cast<double>(seen) * walk.fold));
        }
    }
}

// y = relu(x * scale + shift + added)
template <typename T, bool ADD>
void apply(const T* __restrict x, const T* __restrict added, long rows, long channels, const float* __restrict scale,
           const float* __restrict shift, T* __restrict y) {
    const Walk walk(rows, channels);
    for (long group = 0; group < walk.groups; ++group) {
        float a[LANES], b[LANES];
        spread(scale, group, walk.fold, a);
        spread(shift, group, walk.fold, b);
        for (long line = 0; line < walk.lines; ++line) {
            const long at = group * LANES + line * walk.stride;
            for (int lane = 0; lane < LANES; ++lane) {
                float value = std::fma(load(x[at + lane]), a[lane], b[lane]);
                if (ADD) value += load(added[at + lane]);
                store(y + at + lane, value < 0 ? 0.0f : value);
            }
        }
    }
}

// Sums of g and of g * (x - mean), where g is dy where the ReLU let the value through.
// `gate` is y where something was added, else null: then the sign of x * scale + shift decides.
template <typename T, bool GATE>
void sums(const T* __restrict dy, const T* __restrict x, const T* __restrict gate, long rows, long channels, const float* __restrict mean,
          const float* __restrict scale, const float* __restrict shift, double* sum, double* product) {
    const Walk walk(rows, channels);
    const int own = LANES / walk.fold;
    for (long group = 0; group < walk.groups; ++group) {
        float m[LANES], a[LANES], b[LANES];
        spread(mean, group, walk.fold, m);
        spread(scale, group, walk.fold, a);
        spread(shift, group, walk.fold, b);
        double all[LANES] = {}, products[LANES] = {};
        for (long start = 0; start < walk.lines; start += BLOCK) {
            const long lines = std::min(BLOCK, walk.lines - start);
            float s[LANES] = {}, p[LANES] = {};
            for (long line = start; line < start + lines; ++line) {
                const long at = group * LANES + line * walk.stride;
                for (int lane = 0; lane < LANES; ++lane) {
                    const float value = load(x[at + lane]);
                    const float g = through<T, GATE>(dy[at + lane], gate, at + lane, value, a[lane], b[lane]);
                    s[lane] += g;
                    p[lane] += g * (value - m[lane]);
                }
            }
            for (int lane = 0; lane < LANES; ++lane) {
                all[lane] += s[lane];
                products[lane] += p[lane];
            }
        }
        for (int channel = 0; channel < own; ++channel) {
            double s = 0, p = 0;
            for (int pixel = 0; pixel < walk.fold; ++pixel) {
                s += all[pixel * own + channel];
                p += products[pixel * own + channel];
            }
            sum[group * LANES + channel] = s;
            product[group * LANES + channel] = p;
        }
    }
}

// dx = scale * (g - first - (x - mean) * second); dadded = g
template <typename T, bool GATE>
void gradient(const T* __restrict dy, const T* __restrict x, const T* __restrict gate, long rows, long channels, const float* __restrict mean,
              const float* __restrict scale, const float* __restrict shift, const float* __restrict first, const float* __restrict second, T* __restrict dx,
              T* __restrict dadded) {
    const Walk walk(rows, channels);
    for (long group = 0; group < walk.groups; ++group) {
        float m[LANES], a[LANES], b[LANES], f[LANES], s[LANES];
        spread(mean, group, walk.fold, m);
        spread(scale, group, walk.fold, a);
        spread(shift, group, walk.fold, b);
        spread(first, group, walk.fold, f);
        spread(second, group, walk.fold, s);
        for (long line = 0; line < walk.lines; ++line) {
            const long at = group * LANES + line * walk.stride;
            for (int lane = 0; lane < LANES; ++lane) {
                const float value = load(x[at + lane]);
                const float g = through<T, GATE>(dy[at + lane], gate, at + lane, value, a[lane], b[lane]);
                if (GATE) store(dadded + at + lane, g);
                store(dx + at + lane, a[lane] * (g - f[lane] - (value - m[lane]) * s[lane]));
            }
        }
    }
}

template <typename T>
void forward(const T* __restrict x, const T* __restrict added, long rows, long channels, const float* __restrict weight,
             const float* __restrict bias, float epsilon, float* mean, float* variance, T* __restrict y) {
    statistics(x, rows, channels, mean, variance);
    std::vector<float> scale(channels), shift(channels);
    affine(channels, weight, bias, epsilon, mean, variance, scale.data(), shift.data());
    if (added)
        apply<T, true>(x, added, rows, channels, scale.data(), shift.data(), y);
    else
        apply<T, false>(x, added, rows, channels, scale.data(), shift.data(), y);
}

template <typename T>
void backward(const T* __restrict dy, const T* __restrict x, const T* __restrict y, long rows, long channels, const float* __restrict weight,
              const float* __restrict bias, float epsilon, const float* __restrict mean, const float* variance, T* __restrict dx,
              T* __restrict dadded, float* dweight, float* dbias) {
    std::vector<float> scale(channels), shift(channels), first(channels), second(channels);
    std::vector<double> sum(channels), product(channels);
    affine(channels, weight, bias, epsilon, mean, variance, scale.data(), shift.data());
    if (dadded)
        sums<T, true>(dy, x, y, rows, channels, mean, scale.data(), shift.data(), sum.data(), product.data());
    else
        sums<T, false>(dy, x, y, rows, channels, mean, scale.data(), shift.data(), sum.data(), product.data());
    for (long c = 0; c < channels; ++c) {
        const double inverse = 1 / std::sqrt(static_cast<double>(variance[c]) + epsilon);
        dweight[c] = static_cast<float>(product[c] * inverse);
        dbias[c] = static_cast<float>(sum[c]);
        first[c] = static_cast<float>(sum[c] / rows);
        second[c] = static_cast<float>(product[c] * inverse * inverse / rows);
    }
    if (dadded)
        gradient<T, true>(dy, x, y, rows, channels, mean, scale.data(), shift.data(), first.data(), second.data(), dx, dadded);
    else
        gradient<T, false>(dy, x, y, rows, channels, mean, scale.data(), shift.data(), first.data(), second.data(), dx, dadded);
}

}  // namespace

extern "C" {

void forward_fp32(const float* __restrict x, const float* __restrict added, long rows, long channels, const float* __restrict weight,
                  const float* __restrict bias, float epsilon, float* mean, float* variance, float* y) {
    forward(x, added, rows, channels, weight, bias, epsilon, mean, variance, y);
}

void forward_bf16(const Bfloat16* __restrict x, const Bfloat16* __restrict added, long rows, long channels,
                  const float* __restrict weight, const float* __restrict bias, float epsilon, float* mean,
                  float* variance, Bfloat16* y) {
    forward(x, added, rows, channels, weight, bias, epsilon, mean, variance, y);
}

void backward_fp32(const float* __restrict dy, const float* __restrict x, const float* __restrict y, long rows, long channels,
                   const float* __restrict weight, const float* __restrict bias, float epsilon, const float* __restrict mean,
                   const float* variance, float* dx, float* dadded, float* dweight, float* dbias) {
    backward(dy, x, y, rows, channels, weight, bias, epsilon, mean, variance, dx, dadded, dweight, dbias);
}

void backward_bf16(const Bfloat16* __restrict dy, const Bfloat16* __restrict x, const Bfloat16* __restrict y, long rows,
                   long channels, const float* __restrict weight, const float* __restrict bias, float epsilon,
                   const float* __restrict mean, const float* variance, Bfloat16* dx, Bfloat16* dadded,
                   float* dweight, float* dbias) {
    backward(dy, x, y, rows, channels, weight, bias, epsilon, mean, variance, dx, dadded, dweight, dbias);
}
}
