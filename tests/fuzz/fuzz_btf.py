# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Feed damaged BTF to the reader until the inputs or the time run out.

Usage: python tests/fuzz/fuzz_btf.py [--inputs 1000000] [--seconds 1800] [--seed N]

Every input is a small valid file with bits flipped, words replaced, or parts cut out, doubled
or swapped. Anything but an answer or a BtfError fails, as does an input that takes long; the
input is then written beside the seed that reproduces it.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent / ".collections"), str(TESTS / "unit"), str(TESTS.parent)]

from ansible_collections.linmonitor.stack.plugins.module_utils import _btf  # noqa: E402
from btf_blob import kernel  # noqa: E402

from tests import reliability  # noqa: E402

# Values at which lengths, kinds and references tip over.
EDGES = (0, 1, 2, 3, 24, 0x7F, 0xFF, 0xFFFF, 0x0C00FFFF, 0x0D00FFFF, 0x7FFFFFFF, 0xFFFFFFFF)
SLOW = 0.5


def damage(good: bytes, chance: random.Random) -> bytes:
    """Break a file in one to eight places."""
    data = bytearray(good)
    for _step in range(chance.randint(1, 8)):
        at, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
        kind = chance.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and len(data) >= 4:
            word = chance.choice(EDGES) if chance.random() < 0.7 else chance.getrandbits(32)
            struct.pack_into("=I", data, chance.randrange(len(data) // 4) * 4, word)
        elif kind == 2:
            del data[at : min(end, at + 64)]
        elif kind == 3:
            data[at:at] = data[at : min(end, at + 256)]
        elif kind == 4:
            data[at : at + 8] = chance.randbytes(8)
        elif chance.random() < 0.1:
            del data[at:]
    return bytes(data)


def ask(data: bytes, base: _btf.Btf | None) -> bool:
    """Read and query one input, as a kernel's or a module's; tell whether it was accepted."""
    try:
        btf = _btf.Btf(data, base)
    except _btf.BtfError:
        return False
    for name in ("blk_start", "seven", "nope"):
        btf.function(name)
    for name in ("block_rq_issue", "block_rq_complete"):
        btf.tracepoint(name)
    for name in ("tag", "disk", "major", "nope"):
        btf.member("request", name)
    _btf.fits(btf, {"blk_start"})
    return True


def note(times: int, passed: bool) -> None:
    """Keep the outcome for docs/reliability.md."""
    about = reliability.Row(
        "a kernel's BTF with bytes changed, cut, doubled or swapped",
        "an answer or one kind of error, within half a second",
        times,
    )
    reliability.record({"tests/fuzz/fuzz_btf.py": {**about._asdict(), "passed": passed}})


def main() -> int:
    """Run until a bound is reached; 1 if an input broke the reader."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    chance = random.Random(options.seed)
    good, begin, accepted, done = kernel().bytes(), time.monotonic(), 0, 0
    bases = (None, _btf.Btf(good))
    while done < options.inputs and time.monotonic() - begin < options.seconds:
        data, start = damage(good, chance), time.process_time()
        try:
            accepted += ask(data, bases[done % 2])
            took = time.process_time() - start
            if took > SLOW:
                raise TimeoutError(f"{len(data)} bytes took {took:.1f} s")
        except Exception as error:
            broken = Path(f"fuzz-btf-{options.seed}-{done}.bin")
            broken.write_bytes(data)
            note(done + 1, passed=False)
            print(f"fuzz_btf: input {done} of seed {options.seed}, kept in {broken}: {error!r}")
            return 1
        done += 1
    seconds = time.monotonic() - begin
    note(done, passed=True)
    print(f"fuzz_btf: {done} inputs, {accepted} accepted, seed {options.seed}, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
