"""Files through the gateway: `python -m bench.gateway_files --help`.

- A file of 1 GB, compared with `cp`, in the forms of both SDKs (chunked, or with a Content-Length), and the gateway's
  peak memory.
- A batch, from `files.create` to the last line of `files.content`, compared with `mira-queue run` of the same file.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai

from bench.bulk import machine
from bench.bulk.files import count_lines, write_input
from bench.bulk.running import run_file
from bench.bulk.stage import KEY
from bench.bulk.table import Table, Target, progress, ratio
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.queue_process import QUICK
from tests.support.simulator_process import SimulatorProcess

MB = 1024 * 1024
PIECE_BYTES = 256 * 1024
POLL_S = 0.1
BOUNDARY = "bench-0123456789"
DISK_SPEED = Target(0.5, "x")
FLAT = Target(120, " MiB", at_most=True)
# Without the settings of tests.
_AS_A_USER: dict[str, Any] = {**dict.fromkeys(QUICK), "api_key": KEY}
LIKE_A_RUN = Target(1.05, "x", at_most=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway_files", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="the table shows medians (default: 3)")
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the file (default: 1024)")
    parser.add_argument("--lines", type=int, default=50_000, help="lines of the batch; 0: none (default: 50,000)")
    chosen = parser.parse_args()
    tables = [disk_speed(chosen.runs, chosen.megabytes)]
    if chosen.lines:
        tables.append(batch_time(chosen.runs, chosen.lines))
    print("\n\n".join(table.printed() for table in tables))
    return int(any(table.is_missed for table in tables))


def disk_speed(runs: int, megabytes: int) -> Table:
    """Alternate `cp` and uploads, because the speed of a disk changes from minute to minute."""
    found: dict[str, list[float]] = {}
    with (
        TemporaryDirectory(prefix="mq-bench-") as folder,
        started_gateway(api_base="http://127.0.0.1:9/v1", workers=0, log_level="warning") as gateway,
    ):
        source = Path(folder) / "big.bin"
        with source.open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(MB))
            os.fsync(file.fileno())
        for _ in range(runs):
            found.setdefault("cp and sync", []).append(_copy(source))
            for name, chunked in (("with a Content-Length (Python)", False), ("chunked (Node)", True)):
                found.setdefault(name, []).append(_upload(gateway, source, chunked=chunked))
            progress(str({name: round(times[-1], 2) for name, times in found.items()}))
        peak = machine.peak_mib(gateway.process.pid)
    table = Table(f"a file of {megabytes:,} MiB, median of {runs}", ("seconds", "of the speed of cp"))
    base = statistics.median(found["cp and sync"])
    for name, times in found.items():
        speed = base / statistics.median(times)
        targets = [] if name.startswith("cp") else [(DISK_SPEED, speed)]
        table.add(name, f"{statistics.median(times):.2f}", ratio(speed), targets=targets)
    table.add("peak memory of the gateway", f"{peak:.0f} MiB", "", targets=[(FLAT, peak)])
    return table


def _copy(source: Path) -> float:
    target = source.with_suffix(".copy")
    began_s = time.monotonic()
    subprocess.run(["cp", source, target], check=True)
    # An upload that was answered is on disk, too.
    subprocess.run(["sync", target], check=True)
    took_s = time.monotonic() - began_s
    target.unlink()
    return took_s


def _upload(gateway: Gateway, source: Path, *, chunked: bool) -> float:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    ).encode()
    end = f"\r\n--{BOUNDARY}--\r\n".encode()
    headers = {
        "Authorization": f"Bearer {gateway.key}",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
    }
    if not chunked:
        headers["Content-Length"] = str(len(head) + source.stat().st_size + len(end))

    def pieces() -> Iterator[bytes]:
        yield head
        with source.open("rb") as file:
            yield from iter(lambda: file.read(PIECE_BYTES), b"")
        yield end

    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port)) as connection:
        began_s = time.monotonic()
        connection.request("POST", "/v1/files", pieces(), headers, encode_chunked=chunked)
        response = connection.getresponse()
        found = response.read()
        took_s = time.monotonic() - began_s
    if response.status != 200:
        raise RuntimeError(found.decode())
    with gateway.client() as client:
        for file in client.files.list():
            client.files.delete(file.id)
    return took_s


def batch_time(runs: int, lines: int) -> Table:
    found: dict[str, list[float]] = {}
    with SimulatorProcess.start() as api:
        for _ in range(runs):
            with TemporaryDirectory(prefix="mq-bench-") as folder:
                source = write_input(Path(folder) / "input.jsonl", lines)
                found.setdefault("mira-queue run", []).append(run_file(source, api.url).took_s)
            with (
                TemporaryDirectory(prefix="mq-bench-") as folder,
                # Not the short intervals of tests.
                started_gateway(api_base=api.url, **_AS_A_USER) as gateway,
            ):
                source = write_input(Path(folder) / "input.jsonl", lines)
                found.setdefault("through the gateway", []).append(_batch(gateway, source, lines))
            progress(str({name: round(times[-1], 2) for name, times in found.items()}))
    table = Table(
        f"{lines:,} lines, an API that responds immediately, median of {runs}; the run includes the start of its "
        "processes, the batch that of its supervisor",
        ("seconds", "compared with run"),
    )
    base = statistics.median(found["mira-queue run"])
    for name, times in found.items():
        took_s = statistics.median(times)
        targets = [] if name == "mira-queue run" else [(LIKE_A_RUN, took_s / base)]
        table.add(name, f"{took_s:.2f}", ratio(took_s / base), targets=targets)
    return table


def _batch(gateway: Gateway, source: Path, lines: int) -> float:
    output = source.with_suffix(".output")
    with gateway.client() as client:
        began_s = time.monotonic()
        file = client.files.create(file=source, purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        while (batch := client.batches.retrieve(batch.id)).status in ("validating", "in_progress", "finalizing"):
            time.sleep(POLL_S)
        if batch.status != "completed" or batch.output_file_id is None:
            raise openai.OpenAIError(f"the batch is {batch.status}")
        with client.files.with_streaming_response.content(batch.output_file_id) as content:
            content.stream_to_file(output)
        took_s = time.monotonic() - began_s
    if count_lines(output) != lines:
        raise RuntimeError(f"{count_lines(output)} answers of {lines}")
    return took_s


if __name__ == "__main__":
    sys.exit(main())
