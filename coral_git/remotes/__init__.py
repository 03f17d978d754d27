"""Remote stores: places that hold packs for others, all behind one protocol."""
