#!/usr/bin/env python3
"""Restore a file from its manifest and packs, without coral-git.

Needs Python >= 3.11 and two packages: zstandard and blake3. It is written from the format pages beside
it and shares no code with coral-git, so it is also a check that the pages say all there is to know.

    git show HEAD:model.safetensors > manifest
    python restore.py manifest model.safetensors .git/coral/objects/packs [MORE-PACKS…]
"""

import hashlib
import os
import struct
import sys

import blake3
import zstandard

WIDTHS = (1, 2, 2, 4, 8, 1, 1, 2, 4, 8)  # bytes per unit of each element code (pack.md)
FLOATS = range(1, 6)
ROTATED = (2, 3, 4)
KEYS = {1: (10, 5), 2: (7, 8), 3: (23, 8), 4: (52, 8), 5: (2, 5)}  # lowest bit and length of the exponent
MIB = 1 << 20


class Unreadable(Exception):
    """No copy of an object gives the bytes that its id names."""


DAMAGE = (Unreadable, AssertionError, LookupError, MemoryError, StopIteration, ValueError, struct.error)
DAMAGE += (OverflowError, zstandard.ZstdError)  # what decoding damaged bytes can raise


class Packs:
    """The objects of all packs in some directories, found by scanning the packs themselves."""

    def __init__(self, directories):
        self.copies = {}  # object id: (base or None, path of the pack, offset) of each copy
        for directory in directories:
            for name in sorted(os.listdir(directory)):
                if name.endswith(".pack"):
                    self.scan(os.path.join(directory, name))
        for copies in self.copies.values():
            copies.sort(key=lambda copy: copy[0] is not None)  # full copies first

    def scan(self, path):
        """Note where the objects of a pack are, as far as it is sound."""
        with open(path, "rb") as pack:
            if pack.read(16) != struct.pack("<8sII", b"CORALPCK", 1, 0):
                print(f"{path}: not a pack of version 1", file=sys.stderr)
                return
            offset = 16
            while (header := pack.read(128))[:8] == b"CORALOBJ" and len(header) == 128:
                base = header[56:88] if any(header[56:88]) else None
                self.copies.setdefault(header[16:48], []).append((base, path, offset))
                offset += 128 + struct.unpack_from("<Q", header, 104)[0]
                pack.seek(offset)
            if header[:8] != b"CORALEND":
                print(f"{path}: damaged at {offset}, what follows is left out", file=sys.stderr)

    def read(self, object_id, children=frozenset()):
        """The bytes of an object, checked against its id.

        Two packs may each have a full copy of what is a delta against it in the other one, so a base must
        not be looked for among its own children.
        """
        children |= {object_id}
        for base, path, offset in self.copies.get(object_id, ()):
            if base not in children:
                try:
                    data = self.decode(path, offset, self.read(base, children) if base else b"")
                except DAMAGE:
                    continue
                if blake3.blake3(data).digest() == object_id:
                    return data
        raise Unreadable(f"object {object_id.hex()} is in none of the packs, or damaged")

    def decode(self, path, offset, base):
        """The bytes of the entry at an offset of a pack (pack.md)."""
        with open(path, "rb") as pack:
            pack.seek(offset)
            header = pack.read(128)
            codec, element, base_element = header[8:11]
            (block_size,) = struct.unpack_from("<I", header, 12)
            (raw_length,) = struct.unpack_from("<Q", header, 48)
            base_offset, block_count = struct.unpack_from("<QI", header, 88)
            base = base[base_offset:]
            if base_element != element and any(header[56:88]):
                base = cast(base, base_element, element)
            lengths = [struct.unpack("<IQ", pack.read(12))[0] for _ in range(block_count)]
            raw = bytearray()
            for length in lengths:
                start = len(raw)
                size = min(block_size, raw_length - start)
                raw += decode_block(codec, element, pack.read(length), size, base, start)
        return bytes(raw)


def decode_block(codec, element, payload, size, base, start):
    """One block of an entry (codecs.md)."""
    if codec in (1, 6):
        return streams(payload, [size])[0]
    if codec == 2:
        window = base[max(0, start - MIB) : start + size + MIB]
        return streams(payload, [size], window)[0]
    width = WIDTHS[element]
    units, tail = divmod(size, width)
    face = base[start : start + units * width].ljust(units * width, b"\0")
    if codec in (11, 12) and not units:
        codec = 4
    if codec == 11:
        codec, face, payload = moved(payload, face, element)
    if codec == 12:
        return narrowed(payload, size, face, element)
    if codec == 8:
        return sparse(payload, face, tail, element)
    if codec in (9, 10) and element == 3 and units:
        return quantized(payload, face, tail)
    if codec in (3, 4, 7, 9, 10):
        planes = streams(payload, [units] * width + [tail])
        merged = merge(planes[:width])
    elif codec == 5:
        planes, merged = bucketed(payload, face, tail, element)
    else:
        raise Unreadable(f"codec {codec} is not known to this program")
    if codec == 3:
        body = unrotate(merged, width) if element in ROTATED else merged
    elif codec == 7:
        body = bytes(one ^ other for one, other in zip(merged, face, strict=True))
    else:
        body = add_residual(merged, face, width, element in FLOATS)
    return bytes(body) + planes[-1]


def cast(base, base_element, element):
    """The units of a base as units of another element (codecs.md, "A base of another element")."""
    convert = CASTS.get((base_element, element))
    if convert is None:
        raise Unreadable(f"a base of element {base_element} cannot serve element {element}")
    width = WIDTHS[base_element]
    units = struct.unpack(f"<{len(base) // width}{'HI'[width == 4]}", base[: len(base) // width * width])
    return struct.pack(f"<{len(units)}{'HI'[WIDTHS[element] == 4]}", *map(convert, units))


def to_bf16(unit):
    """A float32 as bfloat16, rounded to even."""
    return ((unit + 0x7FFF + (unit >> 16 & 1)) & 0xFFFFFFFF) >> 16


def to_f16(unit):
    """A float32 as float16, rounded to even."""
    sign, size = unit >> 16 & 0x8000, unit & 0x7FFFFFFF
    if size >= 0x47800000:
        return sign | 0x7C00 | (size >> 13 & 0x3FF if size > 0x7F800000 else 0)
    if size < 0x38800000:
        return sign | round(struct.unpack("<f", struct.pack("<I", size))[0] * 2**24)
    return sign | (size - (112 << 23) + 0xFFF + (size >> 13 & 1)) >> 13


def from_f16(unit):
    """A float16 as float32."""
    sign, size = (unit & 0x8000) << 16, unit & 0x7FFF
    if size >= 0x7C00:
        return sign | size << 13 | 0x7F800000
    if size < 0x400:
        return sign | struct.unpack("<I", struct.pack("<f", size * 2**-24))[0]
    return sign | (size << 13) + (112 << 23)


CASTS = {(3, 2): to_bf16, (3, 1): to_f16, (2, 3): lambda unit: unit << 16, (1, 3): from_f16}


def merge(planes):
    """The units whose bytes the planes hold, the least significant first."""
    merged = bytearray(len(planes) * len(planes[0]))
    for index, plane in enumerate(planes):
        merged[index :: len(planes)] = plane
    return merged


def bucketed(payload, face, tail, element):
    """The streams of a block of codec 5, and its residuals in the order of the units."""
    width = WIDTHS[element]
    shift, bits = KEYS.get(element, (0, 0))
    keys = [
        int.from_bytes(face[at : at + width], "little") >> shift & (1 << bits) - 1
        for at in range(0, len(face), width)
    ]
    buckets = buckets_of(keys)
    kept = []
    if buckets:
        first, second = struct.unpack_from("<HI", payload)
        modes = streams(payload[6 : 6 + first], [len(buckets)])[0]
        sizes = [(len(units) + 7) // 8 for mode, units in zip(modes, buckets, strict=True) if mode == 1]
        masks = iter(streams(payload[6 + first : 6 + first + second], sizes))
        payload = payload[6 + first + second :]
        for mode, units in zip(modes, buckets, strict=True):
            mask = int.from_bytes(next(masks), "little") if mode == 1 else 0 if mode == 2 else -1
            kept.append([unit for number, unit in enumerate(units) if mask >> number & 1])
    planes = streams(payload, [len(units) for units in kept for _ in range(width)] + [tail])
    residuals = bytearray(len(face))
    for number, units in enumerate(kept):
        sorted_units = merge(planes[number * width : (number + 1) * width])
        for place, unit in enumerate(units):
            residuals[unit * width : (unit + 1) * width] = sorted_units[place * width : (place + 1) * width]
    return planes, residuals


def moved(payload, face, element):
    """The codec inside a block of codec 11, the base that it works with, and its payload."""
    codec, bits, length = struct.unpack_from("<BBI", payload)
    table, rest = payload[6 : 6 + length], payload[6 + length :]
    if not bits:
        return codec, face, rest
    width, shift = WIDTHS[element], KEYS[element][0] - bits
    top, steps, units = 1 << 8 * width - 1, [0], bytearray()
    zigzags = merge(streams(table, [1 << bits] * width))
    for at in range(0, len(zigzags), width):
        zigzag = int.from_bytes(zigzags[at : at + width], "little")
        steps.append(steps[-1] + (zigzag >> 1 ^ -(zigzag & 1)))
    for at in range(0, len(face), width):
        unit = int.from_bytes(face[at : at + width], "little")
        step = steps[1 + (unit >> shift & (1 << bits) - 1)]
        place = ~unit - step if unit & top else (unit | top) + step
        units += ((place ^ top if place & top else ~place) & 2 * top - 1).to_bytes(width, "little")
    return codec, bytes(units), rest


def narrowed(payload, size, face, element):
    """A block of codec 12: another codec on the units of a narrower element, and those cast back."""
    codec, seen, payload = payload[0], payload[1], payload[2:]
    assert codec in (4, 5, 8), "a codec that does not belong inside"
    if seen == element:
        return decode_block(codec, element, payload, size, face, 0)
    length = len(face) // WIDTHS[element] * WIDTHS[seen]
    block = decode_block(codec, seen, payload, length + size - len(face), cast(face, element, seen), 0)
    return cast(block[:length], seen, element) + block[length:]


def buckets_of(keys):
    """The units of each bucket: keys together, from the lowest up, until they are enough."""
    by_key = {}
    for unit, key in enumerate(keys):
        by_key.setdefault(key, []).append(unit)
    buckets, held = [], []
    for key in sorted(by_key):
        held += by_key[key]
        if len(held) >= 512 and len(held) * 256 >= len(keys):
            buckets.append(held)
            held = []
    if held and buckets:
        buckets[-1] += held
    elif held:
        buckets.append(held)
    return [sorted(units) for units in buckets]


def sparse(payload, face, tail, element):
    """A block of codec 8: the base, and the units of it that changed."""
    width = WIDTHS[element]
    if not face:
        return streams(payload, [tail])[0]
    (count,) = struct.unpack_from("<I", payload)
    *planes, last = streams(payload[4:], [count] * (4 + width) + [tail])
    result, places, place = bytearray(face), [], -1
    for (gap,) in struct.iter_unpack("<I", merge(planes[:4])):
        place += gap + 1
        places.append(place)
    before = b"".join(face[place * width : (place + 1) * width] for place in places)
    changed = add_residual(merge(planes[4:]), before, width, element in FLOATS)
    for number, place in enumerate(places):
        result[place * width : (place + 1) * width] = changed[number * width : (number + 1) * width]
    return bytes(result) + last


def quantized(payload, face, tail):
    """A block of F32 of codecs 9 and 10: steps times a scale, added to the base."""
    groups = [face[at : at + 4 * 4096] for at in range(0, len(face), 4 * 4096)]
    (end,) = struct.unpack_from("<I", payload)
    modes, *scales = streams(payload[4 : 4 + end], [len(groups)] * 3)
    faces = [b"", b"", b""]  # what the groups of each mode face
    for group, mode in zip(groups, modes, strict=True):
        faces[mode] += group
    small, large, rest = faces
    sizes = [len(small) // 4, *[len(large) // 4] * 2, *[len(rest) // 4] * 4, tail]
    small_steps, *planes, last = streams(payload[4 + end :], sizes)
    steps = [iter(small_steps), iter(struct.unpack(f"<{len(large) // 4}H", merge(planes[:2])))]
    verbatim = add_residual(merge(planes[2:]), rest, 4, True)
    result = bytearray()
    for group, mode, *code in zip(groups, modes, *scales, strict=True):
        if mode == 2:
            result += verbatim[: len(group)]
            verbatim = verbatim[len(group) :]
            continue
        (scale,) = struct.unpack("<f", bytes([0, 0, *code]))
        for (base,) in struct.iter_unpack("<f", group):
            step = next(steps[mode])
            result += struct.pack("<f", base + scale * (step >> 1 ^ -(step & 1)))
    return bytes(result) + last


def streams(payload, sizes, prefix=b""):
    """The streams of a block payload: a table of kinds and lengths, then the data."""
    position = 5 * sum(size > 0 for size in sizes)
    descriptors = struct.iter_unpack("<BI", payload[:position])
    result = []
    for size in sizes:
        if size == 0:  # a stream of length zero is left out altogether
            result.append(b"")
            continue
        kind, length = next(descriptors)
        data = payload[position : position + length]
        position += length
        if kind == 0:
            data = data * size
        elif kind == 2:
            data = zstandard.ZstdDecompressor(dict_data=dictionary(prefix)).decompress(
                data, max_output_size=size
            )
        assert len(data) == size, "a stream has the wrong length"
        result.append(data)
    return result


def dictionary(prefix):
    """Raw bytes as a zstd dictionary; none where there are none."""
    if not prefix:
        return None
    return zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


# Arithmetic on all units of a block at once: the block is one large integer, a unit is a lane of it.


def lanes(pattern, width, count):
    """The same unit in every lane."""
    return int.from_bytes(pattern.to_bytes(width, "little") * count, "little")


def unrotate(data, width):
    """Rotate every unit right by one bit."""
    count, bits = len(data) // width, 8 * width
    value = int.from_bytes(data, "little")
    low = value & lanes(1, width, count)
    return (((value ^ low) >> 1) | low << (bits - 1)).to_bytes(len(data), "little")


def add_residual(data, base, width, is_float):
    """Undo the zigzag of every residual and add it to the base's unit, modulo the width."""
    count, bits = len(data) // width, 8 * width
    ones, low, high = (1 << bits) - 1, lanes(1, width, count), lanes(1 << (bits - 1), width, count)
    value, other = int.from_bytes(data, "little"), int.from_bytes(base, "little")
    sign = value & low
    delta = ((value ^ sign) >> 1) ^ sign * ones
    if is_float:  # order-preserving: negative numbers are inverted, positive ones get the top bit
        other ^= ((other >> (bits - 1)) & low) * ones | high
    total = ((delta & ~high) + (other & ~high)) ^ ((delta ^ other) & high)
    if is_float:
        total ^= (low ^ ((total >> (bits - 1)) & low)) * ones | high
    return total.to_bytes(len(data), "little")


def parse_manifest(text, packs):
    """Header fields and entries of a manifest; table objects are put in place (manifest.md)."""
    lines = text.decode("ascii").splitlines()
    assert lines[0].startswith("# coral 1: "), "not a manifest of version 1"
    fields, entries = {}, []
    pending = lines[1:]
    for line in pending:
        word, _, value = line.partition(" ")
        if word == "table":
            entries += packs.read(bytes.fromhex(value.split(" ")[1])).decode("ascii").splitlines()
        elif word in ("tensor", "chunk"):
            entries.append(line)
        else:
            fields[word] = value
    return fields, [entry.split(" ") for entry in entries]


def pieces(fields, entries, packs):
    """The bytes of the file, in order."""
    gaps = []
    rest = iter(())
    if "rest" in fields:
        ids = fields["rest"].split(" ")[1:]
        rest = Rest(packs, [bytes.fromhex(one) for one in ids])
        for run in fields["gaps"].split(" "):
            count, star, length = run.rpartition("*")
            gaps += [int(length)] * (int(count) if star else 1)
    for index, entry in enumerate(entries):
        if gaps:
            yield rest.take(gaps[index])
        for object_id in entry[4:] if entry[0] == "tensor" else entry[2:]:
            yield packs.read(bytes.fromhex(object_id))
    if gaps:
        yield rest.take(gaps[-1])


class Rest:
    """The bytes between the tensors, read part by part."""

    def __init__(self, packs, ids):
        self.packs, self.ids, self.data, self.position = packs, ids, b"", 0

    def take(self, length):
        """The next bytes."""
        while len(self.data) - self.position < length:
            self.data = self.data[self.position :] + self.packs.read(self.ids.pop(0))
            self.position = 0
        self.position += length
        return self.data[self.position - length : self.position]


def main(manifest, out, *directories):
    """Restore one file and compare its SHA-256 with the manifest's."""
    packs = Packs(directories)
    digest = hashlib.sha256()
    try:
        with open(manifest, "rb") as file:
            fields, entries = parse_manifest(file.read(), packs)
        with open(out, "wb") as file:
            for piece in pieces(fields, entries, packs):
                digest.update(piece)
                file.write(piece)
    except Unreadable as error:
        sys.exit(str(error))
    if digest.hexdigest() != fields["sha256"]:
        sys.exit(f"{out}: SHA-256 differs from the manifest's")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
