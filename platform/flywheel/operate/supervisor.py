"""The process behind ``flywheel up``: starts Ray, deploys the Serve apps, waits to be told to stop.

Everything that serves runs as a Serve application and is restarted by Serve; this process only holds the
Ray head of a local instance and the file that says how to reach it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import httpx

from flywheel.config import FlywheelConfig, load
from flywheel.errors import FlywheelError
from flywheel.records import utcnow
from flywheel.telemetry import private_files
from flywheel.workflow import cluster
from flywheel.workflow.shared import check_shared


def main(path: Path) -> int:
    """Run until SIGTERM. Exit code 1 when the apps could not be started; the reason is in run/error.json."""
    private_files()
    config = load(FlywheelConfig, path)
    run = config.home_path() / "run"
    (run / "error.json").unlink(missing_ok=True)
    stop = threading.Event()

    def ask_to_stop(_signum: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    try:
        _serve(config, path, stop)
    except (FlywheelError, RuntimeError, TimeoutError, OSError) as error:
        (run / "error.json").write_text(json.dumps({"message": str(error)}))
        return 1
    finally:
        cluster.up_file(config).unlink(missing_ok=True)
        cluster.starting_file(config).unlink(missing_ok=True)
    return 0


def _serve(config: FlywheelConfig, path: Path, stop: threading.Event) -> None:
    _say(config, "starting Ray")
    cluster.prepare_environment(config)  # Ray reads it when it is imported
    import ray
    from ray import serve

    from flywheel.gateway.deploy import deploy, withdraw

    foreign = cluster.foreign_address(config)
    if foreign:
        ray.init(address=foreign, runtime_env=cluster.shipped(), namespace=cluster.NAMESPACE, log_to_driver=False)
        check_shared(config)
        address = str(ray.get_runtime_context().gcs_address)
    else:
        address = cluster.start_head(config, dashboard_port=config.cluster.dashboard_port)
    _say(config, "deploying the gateway")
    deploy(path, config)
    host = "127.0.0.1" if config.gateway.host in {"0.0.0.0", "::"} else config.gateway.host
    url = f"http://{host}:{config.gateway.port}"
    _say(config, "waiting for the live model's engine")
    live = _wait_ready(url, config, stop)
    told = {"ray_address": address, "url": url, "live": live, "started": utcnow().isoformat()}
    cluster.write_alive(cluster.up_file(config), os.getpid(), **told)
    cluster.starting_file(config).unlink(missing_ok=True)
    stop.wait()
    if foreign:
        withdraw(config)
    else:
        serve.shutdown()
    ray.shutdown()


def _say(config: FlywheelConfig, text: str) -> None:
    cluster.write_alive(cluster.starting_file(config), os.getpid(), text=text)


def _wait_ready(url: str, config: FlywheelConfig, stop: threading.Event) -> str:
    deadline = time.monotonic() + config.engine.start_timeout_s
    last = "no answer"
    while time.monotonic() < deadline and not stop.is_set():
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5)
            if answer.status_code == 200:
                return str(answer.json()["live"])
            last = answer.text[:300]
        except httpx.HTTPError as error:
            last = repr(error)
        time.sleep(0.3)
    raise FlywheelError(f"The live model was not ready after {config.engine.start_timeout_s:.0f} s: {last}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
