"""Sentence embeddings of a model on this machine. Nothing is ever downloaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flywheel.errors import EnvironmentProblem, ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

WORDLLAMA: Final = "wordllama"
"""A small static model that its package brings along."""
_NEEDS: Final = {WORDLLAMA: "wordllama", "": "sentence_transformers"}

Encode = Callable[[Sequence[str]], "npt.NDArray[np.float32]"]
"""Texts -> unit vectors, one a row; the zero vector for a text without any known token."""


def check_encoder(name: str) -> None:
    """Make sure that ``load_encoder(name)`` can work, without loading anything.

    Raises:
        EnvironmentProblem: its package is not installed. ModelError: it is no folder.
    """
    if importlib.util.find_spec(_NEEDS.get(name, _NEEDS[""])) is None:
        raise EnvironmentProblem(
            f"The encoder '{name}' needs a package that is not installed: pip install 'flywheel[similarity]'"
        )
    if name != WORDLLAMA and not Path(name).is_dir():
        raise ModelError(
            f"evaluation.encoder '{name}' is not a folder, and encoders are not downloaded: "
            f"give the folder of a sentence-transformers model, or '{WORDLLAMA}'."
        )


def load_encoder(name: str) -> Encode:
    """An encoder in memory.

    Args:
        name: ``wordllama``, or the folder of a sentence-transformers model with safetensors weights.

    Raises:
        EnvironmentProblem: its package is not installed. ModelError: the folder holds no such model.
    """
    check_encoder(name)
    return _wordllama() if name == WORDLLAMA else _transformer(name)


def cosines(encode: Encode, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Cosine of each pair of texts, in [-1, 1]; every text is encoded once."""
    import numpy as np

    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    if not texts:
        return []
    place = {text: row for row, text in enumerate(texts)}
    vectors = encode(texts)
    left, right = (vectors[[place[pair[side]] for pair in pairs]] for side in (0, 1))
    return np.clip((left * right).sum(axis=1, dtype=np.float64), -1, 1).tolist()


def _wordllama() -> Encode:
    import numpy as np
    import wordllama

    # As its cache the package's own folder: 0.4 looks for the tokenizer that it brings along in the wrong one.
    packaged = Path(wordllama.__file__).parent
    try:
        model: Any = wordllama.WordLlama.load(cache_dir=packaged, disable_download=True)
    except FileNotFoundError as error:
        raise EnvironmentProblem(f"wordllama was installed without its model ({error}); install it again.") from error

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = np.nan_to_num(np.asarray(model.embed(list(texts)), dtype=np.float32))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    return encode


def _transformer(folder: str) -> Encode:
    from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

    try:
        model: Any = SentenceTransformer(
            folder, device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} cannot be used as an encoder: {error}") from error
    return lambda texts: model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
