"""The ranker that learnt from lists: the promoted one scores, those in the shadow score beside it for the record.

Which they are is polled, as the routing of models is; a change is loaded and then put in place at once, and what cannot
be loaded leaves everything as it was. State and files have a copy on this machine's disk for when the lake is away.
Scoring runs in threads: a list of hundreds of items takes milliseconds, and other requests go on. The shadow has one
thread of its own, and what waits for it too long is dropped: a slow candidate takes no thread from the live ranker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from flywheel.errors import LakeError, ModelError
from flywheel.gateway.choosing.rankers import Candidate, RankerProblem, Scored
from flywheel.inference.engagement_ranker import SPEC, WEIGHTS, EngagementRanker, content_hash, read_ranker
from flywheel.inference.item_features import Item, asked_words
from flywheel.lake.ranker_files import find_files
from flywheel.records import Message, ShadowScores
from flywheel.rollout import ranker_routing as truth
from flywheel.rollout.ranker_routing import RankerRouting, RankerVariant
from flywheel.rollout.routing import Store
from flywheel.statistics.policies import unusable

log = logging.getLogger(__name__)


class EngagementRankers:
    """The rankers of one flow in one gateway replica."""

    name = "engagement"

    def __init__(self, store: Store, flow: str, *, cache: Path, poll_s: float) -> None:
        self._store, self._flow, self._cache, self._poll_s = store, flow, cache, poll_s
        self._state: RankerRouting | None = None
        self._loaded: Mapping[str, EngagementRanker] = {}
        self._said: str | None = None
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ranker-shadow")

    @property
    def serving(self) -> bool:
        """Whether a ranker was promoted. None: lists are ordered by the product's own scores."""
        return self._state is not None and self._state.live is not None

    async def run(self) -> None:
        """Poll until cancelled. What fails is logged and tried again; the last good state stays in force."""
        while True:
            await self.step()
            await asyncio.sleep(self._poll_s)

    async def step(self) -> None:
        """Look once."""
        try:
            await asyncio.to_thread(self._look)
        except (LakeError, ModelError, OSError) as error:
            if str(error) != self._said:  # once until it changes
                self._said = str(error)
                log.warning("the rankers cannot be looked up, the last ones stay in force: %s", error)
        else:
            self._said = None

    async def score(self, messages: Sequence[Message], candidates: Sequence[Candidate]) -> Scored:
        """What the live ranker says.

        Raises:
            RankerProblem: there is none.
        """
        live = self._state.live if self._state else None
        ranker = self._loaded.get(live.version) if live else None
        if live is None or ranker is None:
            raise RankerProblem("not_promoted")
        return Scored(await asyncio.to_thread(ranker.scores, _items(messages, candidates)), live.version)

    async def shadows(
        self, messages: Sequence[Message], candidates: Sequence[Candidate], timeout_s: float
    ) -> list[ShadowScores]:
        """What each ranker in the shadow would say, or why not; never fails, never longer than ``timeout_s``."""
        state = self._state
        work = [self._beside(one.version, messages, candidates, timeout_s) for one in (state.shadows if state else [])]
        return list(await asyncio.gather(*work))

    async def _beside(
        self, version: str, messages: Sequence[Message], candidates: Sequence[Candidate], timeout_s: float
    ) -> ShadowScores:
        ranker = self._loaded.get(version)
        if ranker is None:
            return ShadowScores(version=version, error="not_loaded")
        try:
            async with asyncio.timeout(timeout_s):
                scores = await asyncio.get_running_loop().run_in_executor(
                    self._aside, ranker.scores, _items(messages, candidates)
                )
        except TimeoutError:
            return ShadowScores(version=version, error="timeout")
        except Exception as error:  # noqa: BLE001  (a bug in a candidate must not cost anybody a list)
            return ShadowScores(version=version, error=type(error).__name__)
        reason = unusable(scores, len(candidates))
        return ShadowScores(version=version, scores=[] if reason else scores, error=reason)

    def _look(self) -> None:
        seen = self._state.n if self._state else 0
        try:
            found = truth.newer(self._store, self._flow, seen)
        except (LakeError, OSError):
            if self._state is None:
                self._from_disk()
            raise
        if found is not None:
            self._adopt(found)

    def _adopt(self, state: RankerRouting) -> None:
        """Load what is new, then change all at once: a request sees the old rankers or the new ones.

        A shadow that cannot be loaded scores nothing, which counts against it; the live ranker does not wait for it.
        """
        loaded: dict[str, EngagementRanker] = {}
        for one in state.variants():
            try:
                loaded[one.version] = self._loaded.get(one.version) or self._load(one)
            except ModelError as error:
                if one == state.live:
                    raise
                log.warning("%s", error)
        self._loaded, self._state = loaded, state
        self._keep(f"{self._flow}.json", state.model_dump_json().encode())

    def _load(self, variant: RankerVariant) -> EngagementRanker:
        files = self._kept_files(variant.content) or find_files(self._store, variant.content, (SPEC, WEIGHTS))
        if files is None:
            raise ModelError(f"the files of the ranker {variant.version} are not in the lake")
        if content_hash(files) != variant.content:
            raise ModelError(f"the files of the ranker {variant.version} are not those that were registered")
        ranker = read_ranker(files)
        for name, data in files.items():
            self._keep(f"{variant.content}/{name}", data)
        return ranker

    def _kept_files(self, content: str) -> dict[str, bytes] | None:
        try:
            files = {name: (self._cache / content / name).read_bytes() for name in (SPEC, WEIGHTS)}
        except OSError:
            return None
        return files if content_hash(files) == content else None

    def _from_disk(self) -> None:
        """The last good state of this machine, when a replica starts while the lake is away."""
        with contextlib.suppress(OSError, ValidationError):
            self._adopt(RankerRouting.model_validate_json((self._cache / f"{self._flow}.json").read_bytes()))

    def _keep(self, name: str, data: bytes) -> None:
        target = self._cache / name
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a full disk must not stop the rankers; the copy is a convenience
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            draft.replace(target)


def _items(messages: Sequence[Message], candidates: Sequence[Candidate]) -> list[Item]:
    asked = asked_words(messages)
    return [Item(one.id, one.text, one.features, asked) for one in candidates]
