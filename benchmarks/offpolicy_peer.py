"""Fixtures of Open Bandit Pipeline (obp), the reference of the field: inputs, and what its estimators say of them.

    python benchmarks/offpolicy_peer.py [--out FILE] [--check]

obp 0.5.5 asks for Python below 3.10, and for torch, which its estimators do not use. It is therefore installed
without its dependencies into an environment of its own, with the few packages that its estimators import, and a
stand-in for torch. ``tests/unit/statistics/test_offpolicy_obp.py`` holds our estimators to these numbers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

FIXTURE = Path(__file__).resolve().parent.parent / "tests" / "unit" / "statistics" / "offpolicy_obp.json"
OBP = "obp==0.5.5"
PACKAGES = ("numpy==1.26.4", "scipy==1.11.4", "scikit-learn==1.3.2", "pandas==2.1.4", "matplotlib==3.8.4",
            "seaborn==0.13.2", "tqdm", "pyyaml", "setuptools<81")  # fmt: skip
SCRIPT = """
import json, sys, types
class Any(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything
class Anything(metaclass=Any):
    pass
for name in ("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.utils", "torch.utils.data"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__getattr__ = lambda attribute: Anything
import numpy as np
from obp.ope import (
    DirectMethod, DoublyRobust, InverseProbabilityWeighting, SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting, SlateIndependentIPS, SlateRewardInteractionIPS, SlateStandardIPS,
    SwitchDoublyRobust,
)
rng = np.random.default_rng(0)
rows, actions = 60, 4
logged = rng.dirichlet(np.ones(actions), size=rows) * 0.8 + 0.05
target = rng.dirichlet(np.ones(actions) * 0.7, size=rows)
action = np.array([rng.choice(actions, p=p / p.sum()) for p in logged])
reward = (rng.random(rows) < 0.4).astype(float)
model = rng.random((rows, actions))
given = dict(reward=reward, action=action, position=np.zeros(rows, int), pscore=logged[np.arange(rows), action],
             action_dist=target[:, :, None], estimated_rewards_by_reg_model=model[:, :, None])
MOST = 2.0
single = {
    "ips": InverseProbabilityWeighting(), "ips clip": InverseProbabilityWeighting(lambda_=MOST),
    "snips": SelfNormalizedInverseProbabilityWeighting(), "dm": DirectMethod(), "dr": DoublyRobust(),
    "dr clip": DoublyRobust(lambda_=MOST), "sndr": SelfNormalizedDoublyRobust(),
    "dr switch": SwitchDoublyRobust(lambda_=MOST),
}
lists, places = 40, 3
steps = rng.uniform(0.2, 0.9, size=(2, lists, places))
prefix = steps.cumprod(axis=2)
item = rng.uniform(0.1, 0.9, size=(2, lists, places))
clicks = (rng.random((lists, places)) < 0.4).astype(float)
slate_id, position = np.repeat(np.arange(lists), places), np.tile(np.arange(places), lists)
whole = np.repeat(prefix[:, :, -1:], places, axis=2)
common = dict(slate_id=slate_id, reward=clicks.ravel(), position=position)
slates = {
    "sips": SlateStandardIPS(len_list=places).estimate_policy_value(
        pscore=whole[0].ravel(), evaluation_policy_pscore=whole[1].ravel(), **common),
    "rips": SlateRewardInteractionIPS(len_list=places).estimate_policy_value(
        pscore_cascade=prefix[0].ravel(), evaluation_policy_pscore_cascade=prefix[1].ravel(), **common),
    "iips": SlateIndependentIPS(len_list=places).estimate_policy_value(
        pscore_item_position=item[0].ravel(), evaluation_policy_pscore_item_position=item[1].ravel(), **common),
}
try:
    from obp.ope import SelfNormalizedSlateIndependentIPS as SNIIPS
    from obp.ope import SelfNormalizedSlateRewardInteractionIPS as SNRIPS
    from obp.ope import SelfNormalizedSlateStandardIPS as SNSIPS
except ImportError:
    pass
else:
    slates["snsips"] = SNSIPS(len_list=places).estimate_policy_value(
        pscore=whole[0].ravel(), evaluation_policy_pscore=whole[1].ravel(), **common)
    slates["snrips"] = SNRIPS(len_list=places).estimate_policy_value(
        pscore_cascade=prefix[0].ravel(), evaluation_policy_pscore_cascade=prefix[1].ravel(), **common)
    slates["sniips"] = SNIIPS(len_list=places).estimate_policy_value(
        pscore_item_position=item[0].ravel(), evaluation_policy_pscore_item_position=item[1].ravel(), **common)
import obp
json.dump({
    "obp": obp.__version__,
    "decisions": {"most": MOST, "rewards": reward.tolist(), "served": action.tolist(), "logged": logged.tolist(),
                  "target": target.tolist(), "model": model.tolist(),
                  "values": {name: float(one.estimate_policy_value(**given)) for name, one in single.items()}},
    "lists": {"rewards": clicks.tolist(), "prefix": prefix.tolist(), "item": item.tolist(),
              "values": {name: float(value) for name, value in slates.items()}},
}, open(sys.argv[1], "w"), indent=1)
"""


def main() -> None:
    """Make the environment, run obp in it, write the fixture (or, with --check, compare with the stored one)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FIXTURE)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "obp-venv")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the stored fixture differs")
    parser.add_argument("--short", action="store_true", help="only say whether the fixture is there")
    options = parser.parse_args()
    if options.short:
        print(f"{FIXTURE.name}: {'there' if FIXTURE.exists() else 'missing'}")
        return
    python = environment(options.environment)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "obp.json"
        subprocess.run([str(python), "-c", SCRIPT, str(made)], check=True, timeout=300)
        text = made.read_text() + "\n"
    if options.check:
        sys.exit(None if text == options.out.read_text() else f"{options.out} is not what obp says now")
    options.out.write_text(text)
    print(options.out)


def environment(folder: Path) -> Path:
    """The Python of an environment with obp; made on first use.

    Raises:
        RuntimeError: pip could not install it; its last line.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    if subprocess.run([str(python), "-c", "import importlib.metadata as m; m.version('obp')"], check=False,
                      capture_output=True).returncode == 0:  # fmt: skip
        return python
    alone = ["--no-deps", "--ignore-requires-python"]
    for what in (PACKAGES, (*alone, OBP)):
        command = [str(python), "-m", "pip", "install", "--quiet", *what]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise RuntimeError(f"pip cannot install {' '.join(what)}: {done.stderr.strip()[-300:]}")
    return python


if __name__ == "__main__":
    main()
