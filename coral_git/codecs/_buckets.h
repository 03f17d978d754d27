/* Residuals in the order of buckets, and masks of units that are not zero. Included by _kernels.c, which has the
 * arithmetic of a unit; coral_git/codecs/kernels.py says what each function does.
 */
#define KEYS 256
#define BUCKET_UNITS 512
#define BUCKETS_MOST 256

/* The bucket of each key, and the units in each bucket. */
typedef struct {
    uint32_t count;
    uint8_t of[KEYS];
    size_t length[KEYS];
} Buckets;

static unsigned key_mask(int bits) { return (1u << bits) - 1; }

static int is_key(Py_ssize_t width, int shift, int bits)
{
    if (bits >= 0 && bits <= 8 && shift >= 0 && shift + bits <= 8 * width && shift < 8 * width)
        return 1;
    PyErr_Format(PyExc_ValueError, "no unit of %zd bytes has a key of %d bits at bit %d", width, bits, shift);
    return 0;
}

static uint8_t *take_room(Py_ssize_t length)
{
    uint8_t *room = PyMem_Malloc(length ? (size_t)length : 1);
    if (room == NULL)
        PyErr_NoMemory();
    return room;
}

static void plan_buckets(Buckets *buckets, const size_t *counts, size_t n)
{
    size_t held = 0;
    buckets->count = 0;
    memset(buckets->of, 0, sizeof buckets->of);
    for (size_t key = 0; key < KEYS; key++) {
        held += counts[key];
        buckets->of[key] = (uint8_t)(buckets->count < KEYS ? buckets->count : KEYS - 1);
        if (held >= BUCKET_UNITS && held >= (n + BUCKETS_MOST - 1) / BUCKETS_MOST) {
            buckets->length[buckets->count++] = held;
            held = 0;
        }
    }
    if (buckets->count == 0) {
        memset(buckets->of, 0, sizeof buckets->of);
        if (held)
            buckets->length[buckets->count++] = held;
        return;
    }
    buckets->length[buckets->count - 1] += held;
    for (size_t key = 0; key < KEYS; key++)
        if (buckets->of[key] >= buckets->count)
            buckets->of[key] = (uint8_t)(buckets->count - 1);
}

static void start_buckets(size_t *next, const Buckets *buckets)
{
    size_t start = 0;
    for (uint32_t b = 0; b < buckets->count; b++) {
        next[b] = start;
        start += buckets->length[b];
    }
}

/* Four histograms in turn, because the same key often comes twice in a row. */
#define DEFINE_BUCKETS(U, W)                                                                                 \
    static void histogram_##U(size_t *counts, const uint8_t *base, size_t n, int shift, unsigned mask)       \
    {                                                                                                        \
        size_t part[4][KEYS];                                                                                \
        U unit[4];                                                                                           \
        size_t i = 0;                                                                                        \
        memset(part, 0, sizeof part);                                                                        \
        for (; i + 4 <= n; i += 4) {                                                                         \
            load_##U(unit, base + i * W, 4);                                                                 \
            part[0][(unit[0] >> shift) & mask]++;                                                            \
            part[1][(unit[1] >> shift) & mask]++;                                                            \
            part[2][(unit[2] >> shift) & mask]++;                                                            \
            part[3][(unit[3] >> shift) & mask]++;                                                            \
        }                                                                                                    \
        for (; i < n; i++) {                                                                                 \
            load_##U(unit, base + i * W, 1);                                                                 \
            part[0][(unit[0] >> shift) & mask]++;                                                            \
        }                                                                                                    \
        for (size_t k = 0; k < KEYS; k++)                                                                    \
            counts[k] = part[0][k] + part[1][k] + part[2][k] + part[3][k];                                   \
    }                                                                                                        \
    CLONES static void bucket_split_##U(uint8_t *out, uint8_t *room, const uint8_t *raw,                     \
                                        const uint8_t *base, size_t n, int is_float,                         \
                                        const Buckets *buckets, int shift, unsigned mask)                    \
    {                                                                                                        \
        U tile[TILE], other[TILE];                                                                           \
        U *sorted = (U *)room;                                                                               \
        size_t next[KEYS];                                                                                   \
        start_buckets(next, buckets);                                                                        \
        for (size_t i = 0; i < n; i += TILE) {                                                               \
            size_t m = n - i < TILE ? n - i : TILE;                                                          \
            load_##U(other, base + i * W, m);                                                                \
            residual_tile_##U(tile, other, raw + i * W, m, is_float);                                        \
            for (size_t j = 0; j < m; j++)                                                                   \
                sorted[next[buckets->of[(other[j] >> shift) & mask]]++] = tile[j];                           \
        }                                                                                                    \
        swap_tile_##U(sorted, n);                                                                            \
        split_##U(out, room, n, 0);                                                                          \
    }                                                                                                        \
    CLONES static void bucket_merge_##U(uint8_t *out, uint8_t *room, const uint8_t *const *planes,           \
                                        const uint8_t *base, size_t n, int is_float,                         \
                                        const Buckets *buckets, int shift, unsigned mask)                    \
    {                                                                                                        \
        U tile[TILE], other[TILE];                                                                           \
        U *sorted = (U *)room;                                                                               \
        size_t next[KEYS];                                                                                   \
        start_buckets(next, buckets);                                                                        \
        merge_##U(room, planes, n, 0);                                                                       \
        swap_tile_##U(sorted, n);                                                                            \
        for (size_t i = 0; i < n; i += TILE) {                                                               \
            size_t m = n - i < TILE ? n - i : TILE;                                                          \
            load_##U(other, base + i * W, m);                                                                \
            for (size_t j = 0; j < m; j++)                                                                   \
                tile[j] = sorted[next[buckets->of[(other[j] >> shift) & mask]]++];                           \
            restore_tile_##U(out + i * W, tile, other, m, is_float);                                         \
        }                                                                                                    \
    }

DEFINE_BUCKETS(uint8_t, 1)
DEFINE_BUCKETS(uint16_t, 2)
DEFINE_BUCKETS(uint32_t, 4)
DEFINE_BUCKETS(uint64_t, 8)

static void find_buckets(Buckets *buckets, const uint8_t *base, size_t n, Py_ssize_t width, int shift, int bits)
{
    size_t counts[KEYS];
    unsigned mask = key_mask(bits);
    switch (width) {
    case 1: histogram_uint8_t(counts, base, n, shift, mask); break;
    case 2: histogram_uint16_t(counts, base, n, shift, mask); break;
    case 4: histogram_uint32_t(counts, base, n, shift, mask); break;
    default: histogram_uint64_t(counts, base, n, shift, mask); break;
    }
    plan_buckets(buckets, counts, n);
}

/* The bytes of all planes of up to TILE units, or-ed together. */
INLINE void any_tile(uint8_t *any, const uint8_t *const *planes, size_t width, size_t i, size_t m)
{
    memcpy(any, planes[0] + i, m);
    for (size_t k = 1; k < width; k++)
        for (size_t j = 0; j < m; j++)
            any[j] |= planes[k][i + j];
}

CLONES static size_t nonzero_count(const uint8_t *const *planes, size_t width, size_t n)
{
    uint8_t any[TILE];
    size_t found = 0;
    for (size_t i = 0; i < n; i += TILE) {
        size_t m = n - i < TILE ? n - i : TILE, here = 0;
        any_tile(any, planes, width, i, m);
        for (size_t j = 0; j < m; j++)
            here += any[j] != 0;
        found += here;
    }
    return found;
}

/* Every unit is written, and the next one over it where it is zero: branches here would be guessed wrong. */
static void nonzero_split(uint8_t *mask, uint8_t *out, const uint8_t *const *planes, size_t width, size_t n,
                          size_t found)
{
    uint8_t any[TILE];
    size_t at = 0;
    memset(mask, 0, (n + 7) / 8);
    for (size_t i = 0; i < n && at < found; i += TILE) {
        size_t m = n - i < TILE ? n - i : TILE;
        any_tile(any, planes, width, i, m);
        for (size_t j = 0; j < m; j++)
            mask[(i + j) / 8] |= (uint8_t)((any[j] != 0) << ((i + j) % 8));
        for (size_t j = 0; j < m && at < found; j++) {
            for (size_t k = 0; k < width; k++)
                out[k * found + at] = planes[k][i + j];
            at += any[j] != 0;
        }
    }
}

static size_t count_bits(const uint8_t *mask, size_t n)
{
    size_t found = 0, i = 0;
    for (; i + 8 <= n; i += 8)
        for (uint8_t rest = mask[i / 8]; rest != 0; rest &= (uint8_t)(rest - 1))
            found++;
    for (; i < n; i++)
        found += (mask[i / 8] >> (i % 8)) & 1;
    return found;
}

static void nonzero_merge(uint8_t *out, const uint8_t *mask, const uint8_t *const *planes, size_t width, size_t n,
                          size_t found)
{
    for (size_t k = 0; k < width; k++) {
        uint8_t *to = out + k * n;
        const uint8_t *from = planes[k];
        size_t at = 0, i = 0;
        for (; i < n && at < found; i++) {
            unsigned bit = (mask[i / 8] >> (i % 8)) & 1;
            to[i] = (uint8_t)(from[at] & (0u - bit));
            at += bit;
        }
        memset(to + i, 0, n - i);
    }
}
