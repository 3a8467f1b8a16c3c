"""The deployed set as `flywheel up` starts it, in a process of its own, with a mock engine in the place of vLLM.

`python tests/instance.py CONFIG` prints one line of JSON when it is ready, and ends when its standard input does.
"""

import json
import sys
import time
from pathlib import Path

import httpx

from flywheel.config import FlywheelConfig, load
from flywheel.workflow import cluster


def main(path: Path) -> None:
    config = load(FlywheelConfig, path)
    address = cluster.start_head(config, dashboard_port=config.cluster.dashboard_port)
    import ray
    from ray import serve

    from flywheel.gateway.deploy import deploy
    from flywheel.lake.tables import open_lake
    from flywheel.rollout import routing
    from flywheel.rollout.routing import Variant
    from flywheel.testing import deploy_fake_engine

    deploy(path, config)  # first: it says where Serve listens
    deploy_fake_engine("v1")  # before the routing names it: the controller would start vLLM
    live = Variant(version="v1", folder="/none")
    routing.publish(open_lake(config).store, routing.bootstrap(config.flow, live, actor="test"))
    url = f"http://127.0.0.1:{config.gateway.port}"
    deadline = time.monotonic() + 120
    while httpx.get(f"{url}/readyz", timeout=10).status_code != 200:
        if time.monotonic() > deadline:
            raise TimeoutError("the gateway was not ready")
        time.sleep(0.2)
    print(json.dumps({"ready": url, "ray": address}), flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
