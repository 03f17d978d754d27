/* The most usual step between the units of a base and those of an object, for each value of the top bits of the
 * base's mantissa, and units moved by such steps. Included by _kernels.c, which has the arithmetic of a unit;
 * coral_git/codecs/kernels.py says what each function does.
 */
#define STEPS_SEEN 32
#define STEPS_FEWEST 8
#define MOST_CELL_BITS 16

static int is_cell(Py_ssize_t width, int shift, int bits)
{
    if (bits >= 0 && bits <= MOST_CELL_BITS && shift >= 0 && shift + bits < 8 * width)
        return 1;
    PyErr_Format(PyExc_ValueError, "no unit of %zd bytes has %d bits of mantissa at bit %d", width, bits, shift);
    return 0;
}

/* `room` has STEPS_SEEN units for each cell, `found` a counter; both steps and spans are unsigned. A step is
 * compared with its sign bit turned over, so that it sorts like a signed number. */
#define DEFINE_STEPS(U, W)                                                                                   \
    INLINE U away_##U(U ordered_step, U sign) { return (U)((U)(ordered_step ^ sign) - sign); }               \
    static void sort_steps_##U(U *steps, size_t count)                                                       \
    {                                                                                                        \
        for (size_t i = 1; i < count; i++) {                                                                 \
            U step = steps[i];                                                                               \
            size_t j = i;                                                                                    \
            for (; j > 0 && steps[j - 1] > step; j--)                                                        \
                steps[j] = steps[j - 1];                                                                     \
            steps[j] = step;                                                                                 \
        }                                                                                                    \
    }                                                                                                        \
    /* The middle of the narrowest interval with a quarter of the steps (the shorth of Andrews et al.). */   \
    static U usual_step_##U(U *steps, size_t count)                                                          \
    {                                                                                                        \
        size_t quarter = count / 4, first = 0;                                                               \
        sort_steps_##U(steps, count);                                                                        \
        for (size_t i = 1; i + quarter < count; i++)                                                         \
            if ((U)(steps[i + quarter] - steps[i]) < (U)(steps[first + quarter] - steps[first]))             \
                first = i;                                                                                   \
        return steps[first + quarter / 2];                                                                   \
    }                                                                                                        \
    static void usual_steps_##U(uint8_t *out, U *room, uint8_t *found, const uint8_t *raw,                   \
                                const uint8_t *base, size_t n, int shift, int bits)                          \
    {                                                                                                        \
        const U top = (U)((U)1 << (8 * W - 1));                                                              \
        const size_t cells = (size_t)1 << bits;                                                              \
        U tile[TILE], other[TILE], step = 0;                                                                 \
        memset(found, 0, cells);                                                                             \
        for (size_t i = 0; i < n; i += TILE) {                                                               \
            size_t m = n - i < TILE ? n - i : TILE;                                                          \
            load_##U(tile, raw + i * W, m);                                                                  \
            load_##U(other, base + i * W, m);                                                                \
            for (size_t j = 0; j < m; j++)                                                                   \
                tile[j] = (U)(top ^ away_##U((U)(ordered_##U(tile[j], 1) - ordered_##U(other[j], 1)),        \
                                             sign_##U(other[j])));                                           \
            for (size_t j = 0; j < m; j++) {                                                                 \
                size_t cell = (size_t)(other[j] >> shift) & (cells - 1);                                     \
                if (found[cell] < STEPS_SEEN)                                                                \
                    room[cell * STEPS_SEEN + found[cell]++] = tile[j];                                       \
            }                                                                                                \
        }                                                                                                    \
        for (size_t cell = 0; cell < cells; cell++) {                                                        \
            if (found[cell] >= STEPS_FEWEST)                                                                 \
                step = (U)(top ^ usual_step_##U(room + cell * STEPS_SEEN, found[cell]));                     \
            tile[0] = step;                                                                                  \
            swap_tile_##U(tile, 1);                                                                          \
            memcpy(out + cell * W, tile, W);                                                                 \
        }                                                                                                    \
    }                                                                                                        \
    static void move_units_##U(uint8_t *out, const uint8_t *base, const uint8_t *table, size_t n, int shift, \
                               int bits)                                                                     \
    {                                                                                                        \
        const size_t mask = ((size_t)1 << bits) - 1;                                                         \
        U tile[TILE], steps[TILE];                                                                           \
        for (size_t i = 0; i < n; i += TILE) {                                                               \
            size_t m = n - i < TILE ? n - i : TILE;                                                          \
            load_##U(tile, base + i * W, m);                                                                 \
            for (size_t j = 0; j < m; j++)                                                                   \
                memcpy(&steps[j], table + ((size_t)(tile[j] >> shift) & mask) * W, W);                       \
            swap_tile_##U(steps, m);                                                                         \
            for (size_t j = 0; j < m; j++)                                                                   \
                tile[j] = unordered_##U(                                                                     \
                    (U)(ordered_##U(tile[j], 1) + away_##U(steps[j], sign_##U(tile[j]))), 1);                \
            swap_tile_##U(tile, m);                                                                          \
            memcpy(out + i * W, tile, m * W);                                                                \
        }                                                                                                    \
    }                                                                                                        \
    static void running_sums_##U(uint8_t *out, const uint8_t *const *planes, size_t n)                       \
    {                                                                                                        \
        U tile[TILE], sum = 0;                                                                               \
        for (size_t i = 0; i < n; i += TILE) {                                                               \
            size_t m = n - i < TILE ? n - i : TILE;                                                          \
            gather_##U((uint8_t *)tile, planes, i, m);                                                       \
            swap_tile_##U(tile, m);                                                                          \
            for (size_t j = 0; j < m; j++)                                                                   \
                tile[j] = sum = (U)(sum + (U)((U)(tile[j] >> 1) ^ (U)(0 - (U)(tile[j] & 1))));               \
            swap_tile_##U(tile, m);                                                                          \
            memcpy(out + i * W, tile, m * W);                                                                \
        }                                                                                                    \
    }

DEFINE_STEPS(uint8_t, 1)
DEFINE_STEPS(uint16_t, 2)
DEFINE_STEPS(uint32_t, 4)
DEFINE_STEPS(uint64_t, 8)
