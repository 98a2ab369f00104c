"""Random keys as a pure function of (seed, stream name, step): nothing to save, nothing to restore."""

import zlib

import jax


def stream(seed: int, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The key of stream `name` at `step`. Streams with different names are independent."""
    # crc32 and not hash(): Python salts its string hash anew in every process.
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode())), step)
