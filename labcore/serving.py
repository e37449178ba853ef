"""``lab serve``: several servers behind one address, for a class.

A session lives in the memory of one process, so the proxy in front must send the page, the web
socket and the uploads of one browser to the same one. It does so by a cookie; never by the address
of the sender, since a whole class may come from one. All replicas share the secret that signs
Streamlit's cookies.
"""

import http.client
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from labcore.assets.store import cache_root
from labcore.runs import replacing

ROOT = Path(__file__).resolve().parent.parent
Proxy = Literal["haproxy", "nginx", "none"]
UPLOAD_MB = 20  # as in .streamlit/config.toml
WARM_SECONDS = 180.0
Say = Callable[[str], None]


class ServeError(RuntimeError):
    """Serving cannot start or go on; the message says what to do."""


def ports(first: int, replicas: int) -> list[int]:
    """The replicas' own ports: those after the public one.

    Raises:
        ValueError: no replicas, or ports that do not exist.
    """
    if replicas < 1:
        raise ValueError(f"--replicas must be at least 1, got {replicas}")
    if not 0 < first < 65536 - replicas:
        raise ValueError(f"--port must leave room for {replicas} more below 65536, got {first}")
    return [first + 1 + i for i in range(replicas)]


def haproxy_config(address: str, port: int, replicas: Sequence[int]) -> str:
    """HAProxy's configuration: fewest connections first, then always the same by cookie."""
    servers = "\n".join(
        f"    server lab{i} 127.0.0.1:{p} check inter 2s cookie lab{i}"
        for i, p in enumerate(replicas, start=1)
    )
    return f"""# Written by `lab serve`; one browser stays with one replica, by cookie.
global
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend public
    bind {address}:{port}
    default_backend replicas
backend replicas
    balance leastconn
    cookie LABSRV insert indirect nocache httponly
    option httpchk GET /ready
    http-check expect status 200
{servers}
"""


def nginx_config(address: str, port: int, replicas: Sequence[int], folder: Path) -> str:
    """nginx's configuration: a hash of the browser's cookie, from the first request on."""
    servers = "\n".join(f"        server 127.0.0.1:{p};" for p in replicas)
    return f"""# Written by `lab serve`; one browser stays with one replica, by cookie.
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    userid on;
    userid_name LABSRV;
    upstream replicas {{
        hash $uid_got$uid_set consistent;
{servers}
    }}
    server {{
        listen {address}:{port};
        client_max_body_size {UPLOAD_MB}m;
        location / {{
            proxy_pass http://replicas;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_buffering off;
            proxy_read_timeout 1d;
        }}
    }}
}}
"""


def cookie_secret() -> str:
    """The secret that all replicas share: from the environment, else made once, readable by me."""
    if given := os.environ.get("STREAMLIT_SERVER_COOKIE_SECRET"):
        return given
    path = cache_root() / "serve" / "cookie-secret"
    if not path.exists():
        with replacing(path) as part:
            part.write_text(secrets.token_hex(32))
        path.chmod(0o600)
    return path.read_text()


def is_ready(port: int) -> bool:
    """Whether a replica answers 200 to ``/ready``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class Fleet:
    """The replicas and the proxy: started together, watched, ended together.

    Args:
        address: Where the proxy listens.
        port: The public port; the replicas take the ones after it.
        replicas: How many.
        proxy: Which proxy to start; ``none`` only writes the configurations.
        threads: BLAS threads of a replica.
    """

    address: str
    port: int
    replicas: int
    proxy: Proxy = "haproxy"
    threads: int = 1
    folder: Path = field(default_factory=lambda: cache_root() / "serve")
    _servers: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _front: "subprocess.Popen[bytes] | None" = None

    def start(self, say: Say = print) -> None:
        """Start all, and return once every replica is warm and the proxy listens.

        Raises:
            ValueError: ports or number that cannot be.
            ServeError: no such proxy installed, a replica or the proxy ended, or nobody got warm.
        """
        own = ports(self.port, self.replicas)
        if self.proxy != "none" and shutil.which(self.proxy) is None:
            raise ServeError(
                f"{self.proxy} is not installed: apt-get install {self.proxy}, or --proxy none"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(own)
        for port in own:
            self._servers[port] = self._serve(port)
        self._wait(own, say)
        if self.proxy != "none":
            self._front = self._start_proxy()
            time.sleep(0.5)
            if self._front.poll() is not None:
                raise ServeError(f"{self.proxy} ended: is port {self.port} free?")
        say(f"{self.replicas} replicas on ports {own[0]}..{own[-1]}: {self._where()}")

    def watch(self, say: Say = print) -> None:
        """Bring back replicas that end, until interrupted."""
        while True:
            time.sleep(1.0)
            if self._front is not None and self._front.poll() is not None:
                raise ServeError(f"{self.proxy} ended: see {self.folder}")
            for port, process in self._servers.items():
                if process.poll() is not None:
                    say(f"the replica on port {port} ended (code {process.poll()}), starting anew")
                    self._servers[port] = self._serve(port)

    def stop(self) -> None:
        """End the proxy and all replicas."""
        processes = [p for p in (self._front, *self._servers.values()) if p is not None]
        for process in processes:
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()

    def _write(self, own: Sequence[int]) -> None:
        texts = {
            "haproxy": haproxy_config(self.address, self.port, own),
            "nginx": nginx_config(self.address, self.port, own, self.folder),
        }
        for name, text in texts.items():
            with replacing(self._config(name)) as part:
                part.write_text(text)

    def _config(self, proxy: str) -> Path:
        return self.folder / f"{proxy}.conf"

    def _where(self) -> str:
        if self.proxy == "none":
            names = ", ".join(str(self._config(name)) for name in ("haproxy", "nginx"))
            return f"start a proxy with one of {names}"
        return f"http://{self.address}:{self.port}"

    def _serve(self, port: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "labcore.cli", "app"]
        command += ["--port", str(port), "--threads", str(self.threads)]
        variables = {**os.environ, "STREAMLIT_SERVER_COOKIE_SECRET": cookie_secret()}
        with (self.folder / f"replica-{port}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log)

    def _wait(self, own: Sequence[int], say: Say) -> None:
        end = time.monotonic() + WARM_SECONDS
        waiting = list(own)
        while waiting:
            for port in list(waiting):
                code = self._servers[port].poll()
                if code is not None:
                    log = self.folder / f"replica-{port}.log"
                    last = log.read_text(errors="replace").strip().splitlines()[-1:]
                    raise ServeError(f"the replica on port {port} ended: {' '.join(last)}")
                if is_ready(port):
                    waiting.remove(port)
                    say(f"replica on port {port} is warm")
            if time.monotonic() > end:
                raise ServeError(f"not warm after {WARM_SECONDS:.0f} s: see {self.folder}")
            time.sleep(0.2)

    def _start_proxy(self) -> "subprocess.Popen[bytes]":
        config = str(self._config(self.proxy))
        if self.proxy == "haproxy":
            command = ["haproxy", "-db", "-f", config]
        else:
            command = ["nginx", "-c", config, "-e", str(self.folder / "nginx.log")]
        with (self.folder / "proxy.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)


def serve(fleet: Fleet) -> int:
    """Run a fleet until Ctrl-C or a termination signal."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        fleet.start()
        fleet.watch()
    finally:
        fleet.stop()
    return 0
