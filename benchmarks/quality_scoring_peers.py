"""The other sides of ``quality_scoring.py``: a plain torch loop and Daft, each a process of its own, without Flywheel.

    python benchmarks/quality_scoring_peers.py torch|daft --kind encoder|likelihood --folder MODEL --texts FILE

Reads JSON lines with ``prompt`` and ``text`` and prints ``{"seconds": ..., "check": ...}``: seconds without loading the
model, and a number that must be the same on every side. ``daft`` runs in a virtual environment of its own, with
``daft``, ``torch`` and ``transformers``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BATCH = 32
PERPLEXITY_LIMIT = 512

Row = dict[str, str]


class Model:
    """The network, and what both sides compute of a row: a unit vector's first number, or nats a token."""

    def __init__(self, kind: str, folder: str, max_length: int) -> None:
        from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

        self.kind, self.max_length = kind, max_length
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "right"
        made: Any = AutoModel if kind == "encoder" else AutoModelForCausalLM
        self.model: Any = made.from_pretrained(folder, dtype="float32").eval()

    def encode(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Token ids, and how many of them are the prompt's."""
        if self.kind == "encoder":
            found = self.tokenizer([row["text"] for row in rows], truncation=True, max_length=self.max_length)
            return [{"input_ids": ids, "prompt": 0} for ids in found["input_ids"]]
        made = []
        for row in rows:
            said = [{"role": "user", "content": row["prompt"]}]
            text = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
            head = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            tail = self.tokenizer(row["text"], add_special_tokens=False)["input_ids"]
            made.append({"input_ids": [*head, *tail], "prompt": len(head)})
        return made

    def forward(self, batch: Sequence[dict[str, Any]]) -> list[float]:
        """One number a row."""
        import torch

        padded = self.tokenizer.pad([{"input_ids": row["input_ids"]} for row in batch], return_tensors="pt")
        with torch.inference_mode():
            if self.kind == "encoder":
                states = self.model(**padded).last_hidden_state
                mask = padded["attention_mask"][..., None].to(states.dtype)
                pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
                return torch.nn.functional.normalize(pooled, dim=1)[:, 0].tolist()
            kept = padded["input_ids"].shape[1] - min(row["prompt"] for row in batch) + 1
            logits = self.model(**padded, use_cache=False, logits_to_keep=kept).logits.float()
        first = padded["input_ids"].shape[1] - logits.shape[1]
        found = []
        for row, scores, ids in zip(batch, logits, padded["input_ids"], strict=True):
            start, end = row["prompt"], len(row["input_ids"])
            logs = scores[start - 1 - first : end - 1 - first].log_softmax(dim=-1)
            found.append(-float(logs.gather(1, ids[start:end, None]).mean()))
        return found


def with_torch(model: Model, rows: Sequence[Row]) -> tuple[float, list[float]]:
    """Tokenise all, sort by length, batches of 32; all threads that torch takes by itself."""
    model.forward(model.encode(rows[:8]))  # the first pass allocates
    started = time.perf_counter()
    encoded = model.encode(rows)
    order = sorted(range(len(rows)), key=lambda index: -len(encoded[index]["input_ids"]))
    values = [0.0] * len(rows)
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        for index, value in zip(some, model.forward([encoded[index] for index in some]), strict=True):
            values[index] = value
    return time.perf_counter() - started, values


def with_daft(options: argparse.Namespace, rows: Sequence[Row]) -> tuple[float, list[float]]:
    """A class UDF in one process, as Daft's documentation has it, over rows sorted by characters.

    The model is loaded by a first, untimed query with the same UDF; the timed query follows in the same process.
    """
    import daft

    @daft.udf(return_dtype=daft.DataType.float64(), batch_size=BATCH)
    class Score:
        def __init__(self) -> None:
            self.model = _model(options)

        def __call__(self, prompt: Any, text: Any) -> list[float]:
            some = [{"prompt": a, "text": b} for a, b in zip(prompt.to_pylist(), text.to_pylist(), strict=True)]
            return self.model.forward(self.model.encode(some))

    def query(part: Sequence[Row]) -> list[float]:
        frame = daft.from_pydict({name: [row[name] for row in part] for name in ("prompt", "text")})
        done = frame.with_column("value", Score(frame["prompt"], frame["text"])).to_pydict()
        return done["value"]

    query(rows[:8])
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]["prompt"] + rows[index]["text"]))
    started = time.perf_counter()
    found = query([rows[index] for index in order])
    seconds = time.perf_counter() - started
    values = dict(zip(order, found, strict=True))
    return seconds, [values[index] for index in range(len(rows))]


_LOADED: dict[str, Model] = {}


def _model(options: argparse.Namespace) -> Model:
    """One model a process: Daft makes a UDF object a query, and loading is not what is compared."""
    if options.folder not in _LOADED:
        _LOADED[options.folder] = Model(options.kind, options.folder, options.max_length)
    return _LOADED[options.folder]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["torch", "daft"])
    parser.add_argument("--kind", choices=["encoder", "likelihood"], required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--max-length", type=int, default=PERPLEXITY_LIMIT)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.texts.read_text(encoding="utf-8").splitlines()]
    seconds, values = with_torch(_model(options), rows) if options.side == "torch" else with_daft(options, rows)
    print(json.dumps({"seconds": seconds, "check": sum(values) / len(values)}))


if __name__ == "__main__":
    main()
