"""A gateway over fake engines in a real uvicorn on loopback: ``gateway_fuzz_worker.py HOME PORT_FILE``."""

import socket
import sys
from pathlib import Path

import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway_world import World

from flywheel.gateway.http import body

PATIENCE_S = 1.0


def main() -> None:
    """Serve until killed; the port is written once it listens."""
    body.WAIT_S = PATIENCE_S  # a test need not wait as long as a product
    world = World(Path(sys.argv[1]))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    draft = Path(sys.argv[2]).with_suffix(".draft")
    draft.write_text(str(listening.getsockname()[1]))
    draft.replace(sys.argv[2])
    # the settings of Serve's proxy: whatever parser is installed, no access log
    uvicorn.Server(uvicorn.Config(world.app, log_level="warning", access_log=False)).run(sockets=[listening])


if __name__ == "__main__":
    main()
