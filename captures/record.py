"""Record the captures anew: ``python3 captures/record.py``.

Starts nginx and upstream.py on free ports of 127.0.0.1 with a certificate authority made for this
run, puts mitmproxy between them and curl, sends the requests of exchanges.py and lets mitmproxy
write traffic.har. With --chrome, Chromium visits the same site and its developer tools write
chrome.har. Needs nginx, curl and openssl; mitmproxy comes from PyPI into a virtual environment of
the run, unless --venv names one that has it. Only the run's temporary directory and the two HAR
files are written.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import hashlib
import io
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exchanges import EXCHANGES, Exchange

__all__ = ["main"]

HERE = Path(__file__).resolve().parent
PACKAGES = ("mitmproxy==11.0.2", "websockets==14.1")
MTIME = 1_700_000_000  # of every served file, so that nginx's ETag is the same in each recording
START_SECONDS = 20.0
NAMES = ("DNS:example.test", "DNS:*.example.test", "IP:127.0.0.1")


class RecordingError(Exception):
    """The recording could not be made; nothing was written to captures/."""


@dataclass(frozen=True)
class Ports:
    """Ports of 127.0.0.1 used by one run."""

    http: int
    https: int
    proxy: int
    devtools: int
    upstream: int


def _run(*command: str, seconds: float = 60.0) -> str:
    """Run one program to its end and return its output."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise RecordingError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise RecordingError(f"{command[0]} did not end within {seconds:g} s") from None
    if done.returncode != 0:
        raise RecordingError(f"{' '.join(command)}: status {done.returncode}: {done.stderr[-800:]}")
    return done.stdout


def _free_ports(count: int) -> list[int]:
    """Return ports free at this moment; all are held until all are chosen, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for(port: int, process: subprocess.Popen[str], name: str) -> None:
    """Wait until the port accepts."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RecordingError(f"{name} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    raise RecordingError(f"{name} does not listen on port {port} after {START_SECONDS:g} s")


@contextlib.contextmanager
def _running(
    command: Sequence[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a program and end it, by its id, on leaving."""
    with log.open("w") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        except FileNotFoundError:
            raise RecordingError(f"{command[0]} is not installed") from None
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


def _certificates(work: Path) -> None:
    """Make an authority and one certificate for every name; both die with the directory."""
    authority, key, request = work / "ca.pem", work / "server.key", work / "server.csr"
    made = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    extensions = work / "extensions"
    extensions.write_text(f"subjectAltName={','.join(NAMES)}\nbasicConstraints=CA:FALSE\n")
    subject = ("-subj", "/CN=made for one recording")
    _run("openssl", "req", "-x509", *made, *subject, *_out(work / "ca.key", authority))
    _run("openssl", "req", *made, "-subj", "/CN=example.test", *_out(key, request))
    signer = (
        "-CA",
        str(authority),
        "-CAkey",
        str(work / "ca.key"),
        "-CAcreateserial",
        "-days",
        "2",
    )
    signed = ("-extfile", str(extensions), "-out", str(work / "server.pem"))
    _run("openssl", "x509", "-req", "-in", str(request), *signer, *signed)


def _out(key: Path, result: Path) -> tuple[str, ...]:
    return "-keyout", str(key), "-out", str(result)


def _png(side: int) -> bytes:
    """Draw a valid true-colour PNG (RFC 2083) of noise."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        sum32 = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", sum32)

    noise = random.Random(1)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _archive() -> bytes:
    """Pack a small gzip-compressed tar file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        body = b"released\n" * 40
        member = tarfile.TarInfo("release/notes.txt")
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    return gzip.compress(packed.getvalue(), mtime=0)


def _site(work: Path) -> None:
    """Copy the pages and add the bodies that are generated: images, a font, an archive, Latin-1."""
    site = work / "site"
    shutil.copytree(HERE / "site", site)
    shutil.copy(HERE / "secure-headers.conf", work)
    noise = random.Random(2)
    static = site / "static"
    (static / "logo.png").write_bytes(_png(32))
    photo = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01" + noise.randbytes(200_000) + b"\xff\xd9"
    (static / "photo.jpg").write_bytes(photo)
    (static / "font.woff2").write_bytes(b"wOF2\x00\x01\x00\x00" + noise.randbytes(6_000))
    (static / "bundle.tar.gz").write_bytes(_archive())
    (work / "blob.bin").write_bytes(bytes(range(256)) * 2)
    latin1 = site / "legacy" / "latin1.html"
    latin1.write_bytes(latin1.read_text("utf-8").encode("iso-8859-1"))
    digest = base64.b64encode(hashlib.sha384((static / "app.js").read_bytes()).digest()).decode()
    front = site / "shop" / "index.html"
    front.write_text(front.read_text("utf-8").replace("@APP_JS_SRI@", f"sha384-{digest}"), "utf-8")
    for path in site.rglob("*"):
        os.utime(path, (MTIME, MTIME))


def _nginx_conf(work: Path, ports: Ports) -> Path:
    """Fill in the template."""
    text = (HERE / "nginx.conf").read_text("utf-8")
    for mark, value in (
        ("@WORK@", str(work)),
        ("@HTTP@", str(ports.http)),
        ("@HTTPS@", str(ports.https)),
        ("@APP@", str(ports.upstream)),
    ):
        text = text.replace(mark, value)
    (work / "tmp").mkdir()
    path = work / "nginx.conf"
    path.write_text(text, "utf-8")
    return path


def _request(exchange: Exchange, work: Path, ports: Ports) -> str:
    """Send one request by curl, through mitmproxy; return what is wrong with the status, or ""."""
    options = [option.replace("@WORK@", str(work)) for option in exchange.options]
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--http2"]
    command += ["--proxy", f"http://127.0.0.1:{ports.proxy}", "--output", str(work / "answer")]
    command += ["--cacert", str(work / "mitmproxy" / "mitmproxy-ca-cert.pem")]
    if exchange.url.startswith("http:"):
        command.append("--http1.1")
    command += [*options, "--write-out", "%{http_code}", exchange.url]
    status = _run(*command)
    if status == str(exchange.status):
        return ""
    return f"{exchange.url} {' '.join(options)}: status {status}, expected {exchange.status}"


def _record_traffic(work: Path, bin_directory: Path, ports: Ports) -> Path:
    """Put mitmproxy between curl and nginx and return the file it wrote."""
    har = work / "traffic.har"
    settings = {
        "confdir": work / "mitmproxy",
        "hardump": har,
        "ssl_verify_upstream_trusted_ca": work / "ca.pem",
        "termlog_verbosity": "warn",
    }
    command = [str(bin_directory / "mitmdump"), "-q", "--listen-host", "127.0.0.1"]
    command += ["--listen-port", str(ports.proxy), "-s", str(HERE / "reroute.py")]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    rerouted = {"CAPTURE_HTTP_PORT": str(ports.http), "CAPTURE_HTTPS_PORT": str(ports.https)}
    with _running(command, work / "mitmdump.log", rerouted) as proxy:
        _wait_for(ports.proxy, proxy, "mitmdump")
        wrong = [text for text in (_request(one, work, ports) for one in EXCHANGES) if text]
    if wrong:
        raise RecordingError("\n  ".join(["the site answered otherwise:", *wrong]))
    if not har.is_file():
        raise RecordingError(f"mitmdump wrote no HAR: {(work / 'mitmdump.log').read_text()[-800:]}")
    return har


def _record_chrome(work: Path, bin_directory: Path, ports: Ports, chromium: str) -> Path:
    """Let Chromium visit the site and return what its developer tools exported."""
    har = work / "chrome.har"
    rules = f"MAP *:443 127.0.0.1:{ports.https}, MAP *:80 127.0.0.1:{ports.http}"
    key = _run("openssl", "x509", "-in", str(work / "server.pem"), "-pubkey", "-noout")
    der = base64.b64decode("".join(key.splitlines()[1:-1]))
    pin = base64.b64encode(hashlib.sha256(der).digest()).decode()
    command = [
        chromium,
        "--headless=new",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        f"--user-data-dir={work / 'profile'}",
        f"--remote-debugging-port={ports.devtools}",
        f"--remote-allow-origins=http://127.0.0.1:{ports.devtools}",
        f"--host-resolver-rules={rules}, EXCLUDE 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={pin}",
    ]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # Chromium refuses to start as root with its sandbox
    home = {"HOME": str(work), "XDG_CONFIG_HOME": str(work), "XDG_CACHE_HOME": str(work)}
    with _running([*command, "about:blank"], work / "chromium.log", home) as browser:
        _wait_for(ports.devtools, browser, "chromium")
        script = (str(HERE / "browse.py"), str(ports.devtools), str(har))
        _run(str(bin_directory / "python"), *script, seconds=120.0)
    return har


def _packages(work: Path, venv: Path | None) -> Path:
    """Return the bin directory of a virtual environment that has mitmproxy."""
    if venv is None:
        venv = work / "venv"
        _run(sys.executable, "-m", "venv", str(venv), seconds=120.0)
        pip = (str(venv / "bin" / "pip"), "install", "--quiet", *PACKAGES)
        _run(*pip, seconds=600.0)
    return venv / "bin"


def _record(work: Path, arguments: argparse.Namespace) -> list[Path]:
    """Start the site, record what was asked for and return the files."""
    bin_directory = _packages(work, arguments.venv)
    _certificates(work)
    _site(work)
    ports = Ports(*_free_ports(5))
    application = [sys.executable, str(HERE / "upstream.py"), str(ports.upstream)]
    with _running(application, work / "upstream.log") as upstream:
        _wait_for(ports.upstream, upstream, "upstream.py")
        conf = _nginx_conf(work, ports)
        command = ["nginx", "-p", str(work), "-c", str(conf), "-e", str(work / "nginx-error.log")]
        with _running(command, work / "nginx.log") as nginx:
            _wait_for(ports.https, nginx, "nginx")
            made = [_record_traffic(work, bin_directory, ports)]
            if arguments.chrome is not None:
                made.append(_record_chrome(work, bin_directory, ports, arguments.chrome))
    return made


def main() -> int:
    """Record, and move the files into place only when all of it worked."""
    parser = argparse.ArgumentParser(description="Record captures/traffic.har anew.")
    parser.add_argument("--venv", type=Path, help="environment with " + " and ".join(PACKAGES))
    parser.add_argument("--chrome", metavar="PROGRAM", help="record chrome.har with this Chromium")
    parser.add_argument("--output", type=Path, default=HERE, help="directory of the HAR files")
    arguments = parser.parse_args()
    if not arguments.output.is_dir():
        parser.error(f"--output wants an existing directory, got {arguments.output}")
    with tempfile.TemporaryDirectory(prefix="capture-") as work:
        try:
            for har in _record(Path(work), arguments):
                shutil.copyfile(har, arguments.output / har.name)
                print(f"{arguments.output / har.name}: {har.stat().st_size} bytes")
        except RecordingError as exc:
            print(f"record.py: {exc}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
