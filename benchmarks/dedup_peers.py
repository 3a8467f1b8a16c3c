"""What near-duplicate search is compared with: each in a virtual environment of its own, made on first use.

A script gets texts (``argv[1]``), where to write (``argv[2]``), threshold, rows a band, bands, and the folder that
holds Flywheel's source, of which only the normal form is used. Peers decide by their own means what is similar.
"""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path
from typing import NamedTuple


class Peer(NamedTuple):
    """What pip installs, and the program that is measured."""

    packages: tuple[str, ...]
    script: str


_BEGIN = """
import importlib.util, json, resource, sys, time
texts = json.load(open(sys.argv[1]))
threshold, rows, bands = float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
spec = importlib.util.spec_from_file_location("normalise", sys.argv[6] + "/flywheel/text/normalise.py")
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
normalise = module.normalise
def shingles(text):
    normal = normalise(text)
    return [normal[i:i + 5] for i in range(max(1, len(normal) - 4))]
"""

_MEASURE = """
dedupe(texts[:50])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began, cpu = time.perf_counter(), time.process_time()
keep = dedupe(texts)
out = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "keep": [bool(one) for one in keep],
       "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}
json.dump(out, open(sys.argv[2], "w"))
"""

RENSA = Peer(("rensa==0.5.0",), _BEGIN + """
from rensa import RMinHashDeduplicator
def dedupe(texts):
    index = RMinHashDeduplicator(threshold=threshold, num_perm=rows * bands, use_lsh=True, num_bands=bands, seed=7)
    return index.add_pairs((str(place), shingles(text)) for place, text in enumerate(texts))
""" + _MEASURE)  # fmt: skip
"""Its documented way to keep unique documents: LSH, candidates by the estimate of their sketches."""

DATASKETCH = Peer(("datasketch==1.6.5",), _BEGIN + """
from datasketch import MinHash, MinHashLSH
def dedupe(texts):
    index, keep = MinHashLSH(params=(bands, rows), num_perm=rows * bands), []
    sets = [[one.encode("utf-8", "surrogatepass") for one in shingles(text)] for text in texts]
    for place, sketch in enumerate(MinHash.generator(sets, num_perm=rows * bands, seed=7)):
        new = not any(sketches[other].jaccard(sketch) >= threshold for other in index.query(sketch))
        keep.append(new)
        if new:
            sketches[place] = sketch
            index.insert(place, sketch)
    return keep
sketches = {}
_plain = dedupe
def dedupe(texts):
    sketches.clear()
    return _plain(texts)
""" + _MEASURE)  # fmt: skip

TEXT_DEDUP = Peer(("text-dedup",), _BEGIN + """
import numpy as np
from text_dedup.minhash import embed_func
from text_dedup.utils import UnionFind
from text_dedup.utils.hashfunc import sha1_hash
PRIME, MOST = np.uint64((1 << 61) - 1), np.uint64((1 << 32) - 1)
rng = np.random.RandomState(7)
permutations = (
    rng.randint(1, PRIME, size=(rows * bands,), dtype=np.uint64),
    rng.randint(0, PRIME, size=(rows * bands,), dtype=np.uint64),
)
ranges = [(i * rows, (i + 1) * rows) for i in range(bands)]
import re
def dedupe(texts):
    tables, union = [{} for _ in range(bands)], UnionFind()
    for place, text in enumerate(texts):
        made = embed_func(
            content=" ".join(shingles(text)), idx=place, num_perm=rows * bands, ngram_size=1, min_length=0,
            hashranges=ranges, permutations=permutations, hash_func=lambda b: sha1_hash(b, d=32), dtype=np.uint64,
            max_hash=MOST, modulo_prime=PRIME,
        )
        for key, table in zip(made["__signatures__"], tables):
            table.setdefault(key, []).append(place)
    for table in tables:
        for members in table.values():
            for other in members[1:]:
                union.union(members[0], other)
    return [union.find(place) == place for place in range(len(texts))]
""" + _MEASURE)  # fmt: skip
"""Its MinHash, buckets and union-find, as its command line puts them together; it does not verify pairs."""


def environment(cache: Path, name: str, packages: tuple[str, ...]) -> Path:
    """The Python of a virtual environment that holds ``packages``.

    Raises:
        RuntimeError: pip could not install them; its last line.
    """
    folder = cache / name
    venv.create(folder, with_pip=True, clear=True)
    command = [str(folder / "bin" / "pip"), "install", "--quiet", *packages]
    installed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if installed.returncode:
        raise RuntimeError(f"pip cannot install {', '.join(packages)}: {installed.stderr.strip()[-200:]}")
    return folder / "bin" / "python"
