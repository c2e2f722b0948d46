"""Compares Rollcall with other servers that serve the same models: `make peers`.

    compare.py ASSETS ROLLCALL [--photos FOLDER] [--rounds N] [--uploads N] [--singles N]

All are up during the whole run, with one thread of inference per core, and take turns in each round. The client is
`rollcall load` for each of them. It runs on the same machine, so part of a core is missing for all alike. Prints the
medians of the rounds; images/s with 64 uploads at a time, and the times with one at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
WAITING = 64
START_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], url: str, **environment: str):
    """Runs a server until the end of the block."""
    server = subprocess.Popen(command, env=os.environ | environment, stdout=sys.stderr)
    try:
        deadline = time.monotonic() + START_S
        while not answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"compare: {' '.join(command)} does not serve {url}: see its output above")
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def rollcall(program: str, assets: Path, data_dir: str) -> tuple:
    port, cores = free_port(), str(os.cpu_count())
    environment = {
        "ROLLCALL__LOCAL__DATA_DIR": data_dir,
        "ROLLCALL__HTTP__LISTEN": f"127.0.0.1:{port}",
        "ROLLCALL__FLEET__MAX_INSTANCES": cores,
        "ROLLCALL__WORKER__THREADS": "1",
        "ROLLCALL__WORKER__IDLE_STOP": "1h",
    }
    enroll = [program, "enroll", str(assets / "photos" / "known")]
    subprocess.run(enroll, env=os.environ | environment, stdout=sys.stderr, check=True)
    url = f"http://127.0.0.1:{port}/"
    return "Rollcall", url, running([program, "up"], url, **environment)


def mosec(name: str, assets: Path, embedder: Path) -> tuple:
    port = free_port()
    folders = ("golden", "pillow", "peers")
    packages = [HERE.parent.parent / "tools", *(assets / "python" / folder for folder in folders)]
    server = [sys.executable, str(HERE / "mosec_server.py"), "--address", "127.0.0.1", "--port", str(port)]
    environment = {
        "PYTHONUSERBASE": str((assets / "python" / "peers").absolute()),  # in whose `bin` Mosec looks for its program
        "PYTHONPATH": os.pathsep.join(str(path.absolute()) for path in packages),
        "PEER_ASSETS": str(assets.absolute()),
        "PEER_EMBEDDER": str(embedder.absolute()),
        "PEER_WORKERS": str(os.cpu_count()),
    }
    url = f"http://127.0.0.1:{port}/inference"
    return name, url, running(server, url, **environment)


def load(program: str, url: str, photos: Path, uploads: int, waiting: int) -> dict:
    command = [program, "load", "--url", url, "--dir", str(photos), "--requests", str(uploads)]
    command += ["--concurrency", str(waiting), "--no-verify", "--no-progress", "--json"]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    if report["completed"] != uploads:
        sys.exit(f"compare: {url} answered {report['completed']} of {uploads} uploads: {report['failures'][:3]}")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path)
    parser.add_argument("rollcall")
    parser.add_argument("--photos", type=Path, help="folder of photos; by default the sample photos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--uploads", type=int, default=400, help="uploads per round")
    parser.add_argument("--singles", type=int, default=50, help="uploads per round, one at a time")
    options = parser.parse_args()
    photos, models = options.photos or options.assets / "photos", options.assets / "models"

    with contextlib.ExitStack() as stack:
        data_dir = stack.enter_context(tempfile.TemporaryDirectory())
        servers = [
            rollcall(options.rollcall, options.assets, data_dir),
            mosec("Mosec, int8", options.assets, options.assets / "peers" / "face_recognition_sface_2021dec_int8.onnx"),
            mosec("Mosec, fp32", options.assets, models / "face_recognition_sface_2021dec.onnx"),
        ]
        results = {name: [] for name, _, _ in servers}
        for _, url, server in servers:
            stack.enter_context(server)
            load(options.rollcall, url, photos, options.uploads, WAITING)  # until all its workers are up
        for _ in range(options.rounds):
            for name, url, _ in servers:
                many = load(options.rollcall, url, photos, options.uploads, WAITING)
                one = load(options.rollcall, url, photos, options.singles, 1)["latency_ms"]
                results[name].append((many["images_per_second"], one["p50"], one["p99"]))

    print(f"{'':14}{'images/s':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for name, rounds in results.items():
        rate, p50, p99 = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{name:14}{rate:10.1f}{p50:10.1f}{p99:10.1f}")
    rates = {name: [rate for rate, *_ in rounds] for name, rounds in results.items()}
    for name in list(rates)[1:]:
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["Rollcall"], rates[name], strict=True))
        print(f"Rollcall serves {ratio:.2f} times the images of {name}")


if __name__ == "__main__":
    main()
