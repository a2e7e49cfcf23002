// `experts`, of shape [rows, k], names matrices of the stack. Row n of `y` is the sum over row n of `experts` of the matrix
// times a row of `x`, which has rows * k of them; where ADDED, `more` has what is added to `y`. Where GATED, `y` has
// rows * k rows: silu(gate) * up of the halves of a matrix times row n / k of `x`, times the weight that `more` has for it.
//
// A block sums 16 rows of a matrix, which its warps share out by steps of 512 values, in tensor cores (mma.m16n8k16, with
// weights as matrix A: lane 4g + t has rows g and g + 8). A column of B has the activations of one group of 64 weights and
// zeros, so that eight groups are kept apart; the order of the values does not matter where A's is B's.
const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
const int outputs = weight_shape[weight_ndim - 2], halves = outputs / 2, chunks = weight_shape[weight_ndim - 1] / 4;
const int k = experts_shape[1], slots = GATED ? 1 : k, steps = (chunks + 15) / 16;
const int tile = blockIdx.x * (GATED ? 8 : 16), row_a = tile + g, row_b = row_a + (GATED ? halves : 8);

auto low = [](unsigned two) { return __uint_as_float(two << 16); };
auto high = [](unsigned two) { return __uint_as_float(two & 0xffff0000u); };
auto multiply = [](float(&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
};

float sum_a = 0.0f, sum_b = 0.0f;
for (int at = warp; at < slots * steps; at += WARPS) {
  const int slot = blockIdx.y * slots + at / steps, step = at % steps;
  const size_t stack = size_t(experts[slot]) * outputs;
  // Of the 16 chunks of 32 values of a step, this lane has every fourth. Past the end the last one is read again, and
  // multiplied by 0.
  uint4 a[4], b[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int chunk = min(step * 16 + j * 4 + t, chunks - 1);
    a[j] = __ldcs(reinterpret_cast<const uint4*>(weight) + (stack + row_a) * chunks + chunk);
    b[j] = __ldcs(reinterpret_cast<const uint4*>(weight) + (stack + row_b) * chunks + chunk);
  }
  // The columns 2t and 2t + 1 of the products, which this lane gets, are the two groups of chunks with j = t.
  const int pairs = chunks / 4, pair = min(step * 4 + t, pairs - 1);
  auto of_groups = [&](const auto* of, int row) {
    return __ldcs(reinterpret_cast<const unsigned*>(of) + (stack + row) * pairs + pair);
  };
  const unsigned scales_a = of_groups(scales, row_a), biases_a = of_groups(biases, row_a);
  const unsigned scales_b = of_groups(scales, row_b), biases_b = of_groups(biases, row_b);

  // Column g is for chunks with j = g / 2, of which lanes t = 0 and 1 have the first group and 2 and 3 the second.
  const int chunk = step * 16 + g / 2 * 4 + t;
  const bool mine = t / 2 == g % 2 && chunk < chunks;
  const uint4* of_x = reinterpret_cast<const uint4*>(x) + (size_t(GATED ? slot / k : slot) * chunks + chunk) * 4;
  unsigned two[16];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // The values 0 and 4, 1 and 5, 2 and 6, 3 and 7 of eight, as one mask takes them from eight weights.
    const uint4 eight = mine ? of_x[i] : make_uint4(0, 0, 0, 0);
    two[i * 4] = __byte_perm(eight.x, eight.z, 0x5410);
    two[i * 4 + 1] = __byte_perm(eight.x, eight.z, 0x7632);
    two[i * 4 + 2] = __byte_perm(eight.y, eight.w, 0x5410);
    two[i * 4 + 3] = __byte_perm(eight.y, eight.w, 0x7632);
  }
  const unsigned one = 0x3f803f80;
  float sums[4][4] = {}, of_ones[4] = {};
#pragma unroll
  for (int i = 0; i < 16; i += 2) multiply(of_ones, one, one, one, one, two[i], two[i + 1]);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const unsigned of_a[4] = {a[j].x, a[j].y, a[j].z, a[j].w}, of_b[4] = {b[j].x, b[j].y, b[j].z, b[j].w};
    // Four bits in the mantissa of 128 are 128 more.
    auto plus_128 = [](unsigned of, int place) { return ((of >> (4 * place)) & 0x000f000fu) | 0x43004300u; };
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const unsigned u = of_a[i / 2], v = of_b[i / 2], p = i % 2 * 2;
      multiply(sums[j], plus_128(u, p), plus_128(v, p), plus_128(u, p + 1), plus_128(v, p + 1), two[i * 2], two[i * 2 + 1]);
    }
  }
  auto column = [&](int i) {
    const float lower = t & 1 ? sums[1][i] : sums[0][i], upper = t & 1 ? sums[3][i] : sums[2][i];
    return t & 2 ? upper : lower;
  };
  auto scaled = [](float sum, float ones, float scale, float bias) { return scale * (sum - 128.0f * ones) + bias * ones; };
  sum_a += scaled(column(0), of_ones[0], low(scales_a), low(biases_a));
  sum_a += scaled(column(1), of_ones[1], high(scales_a), high(biases_a));
  sum_b += scaled(column(2), of_ones[0], low(scales_b), low(biases_b));
  sum_b += scaled(column(3), of_ones[1], high(scales_b), high(biases_b));
}

for (int other = 1; other < 4; other *= 2) {
  sum_a += __shfl_xor_sync(0xffffffffu, sum_a, other);
  sum_b += __shfl_xor_sync(0xffffffffu, sum_b, other);
}
__shared__ float of_warps[WARPS][16];
if (t == 0) {
  of_warps[warp][g] = sum_a;
  of_warps[warp][g + 8] = sum_b;
}
__syncthreads();
const int row = threadIdx.x;
if (row >= (GATED ? 8 : 16)) return;
auto total = [&](int row) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < WARPS; ++i) sum += of_warps[i][row];
  return sum;
};
if (GATED) {
  const float gate = total(row), up = total(row + 8);
  y[size_t(blockIdx.y) * halves + tile + row] = gate / (1.0f + __expf(-gate)) * up * float(more[blockIdx.y]);
} else {
  const size_t at = size_t(blockIdx.y) * outputs + tile + row;
  y[at] = ADDED ? total(row) + float(more[at]) : total(row);
}
