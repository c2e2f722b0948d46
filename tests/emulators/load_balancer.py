"""Application Load Balancers of the emulated AWS: real HTTPS in front of the machines of a target group.

A load balancer has a node in each of its subnets. Each node checks the health of each target, and connects from an address of
its subnet, which a machine therefore sees as its peer. As on AWS, a target gets requests once it has passed one check; it
fails after as many failed checks in a row as the target group says, and is healthy again after as many successful ones. If no
target is healthy, all of them get requests. A target that is being deregistered gets no new requests, and is gone when it
has answered those that it has, or after the deregistration delay. What a target does not answer within the idle
timeout is a 504, and a connection that it closes a 502; no request is sent again.

$LOAD_BALANCER_PORT is the port on loopback that stands for 443. $LOAD_BALANCER_SPEED divides the times of health checks, the
deregistration delay and the grace period of auto scaling groups. TLS ends here, with a certificate for $LOAD_BALANCER_NAME
that is written to the folder of the disks as `certificate.pem`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import itertools
import json
import os
import ssl
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import aiohttp
import yarl
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SPEED = float(os.environ.get("LOAD_BALANCER_SPEED", "1"))
NAME = os.environ.get("LOAD_BALANCER_NAME", "localhost")
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

# One event loop for all load balancers, in a thread of its own.
LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def run(coroutine):
    """Runs a coroutine on the load balancers' loop, and returns its result."""
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result()


def machines() -> dict[str, dict]:
    """Returns the machines of the emulated EC2, by their ids."""
    with urllib.request.urlopen(os.environ["EC2_SHIM_CONTROL"] + "/instances") as response:
        return {machine["id"]: machine for machine in json.load(response)}


class Target:
    """A machine of a target group."""

    def __init__(self, id: str, port: int):
        self.id, self.port = id, port
        self.in_flight = 0
        self.draining_since: float | None = None
        # By node of the load balancer: whether the target is healthy (None: not known yet), and how many checks in a row had
        # the opposite result.
        self.healthy: dict[str, bool | None] = {}
        self.opposite: dict[str, int] = {}

    @property
    def state(self) -> str:
        if self.draining_since is not None:
            return "draining"
        known = set(self.healthy.values())
        return "initial" if known <= {None} else "unhealthy" if False in known else "healthy"

    def checked(self, node: str, ok: bool, group: TargetGroup) -> None:
        known = self.healthy.get(node)
        threshold = group.healthy_threshold if ok else group.unhealthy_threshold
        if known is None and ok:
            threshold = 1
        self.opposite[node] = self.opposite.get(node, 0) + 1 if known is not ok else 0
        if self.opposite[node] >= threshold:
            self.healthy[node], self.opposite[node] = ok, 0


class TargetGroup:
    def __init__(self, properties: dict):
        attributes = {pair["Key"]: pair["Value"] for pair in properties.get("TargetGroupAttributes", [])}
        self.path = properties["HealthCheckPath"]
        self.interval = int(properties["HealthCheckIntervalSeconds"]) / SPEED
        self.timeout = int(properties["HealthCheckTimeoutSeconds"])
        self.healthy_threshold = int(properties["HealthyThresholdCount"])
        self.unhealthy_threshold = int(properties["UnhealthyThresholdCount"])
        self.delay = int(attributes["deregistration_delay.timeout_seconds"]) / SPEED
        assert properties["Protocol"] == "HTTP" and properties["Matcher"] == {"HttpCode": "200"}
        assert attributes["load_balancing.algorithm.type"] == "least_outstanding_requests"
        self.targets: dict[str, Target] = {}

    def register(self, id: str) -> None:
        self.targets[id] = Target(id, machines()[id]["port"])

    def deregister(self, id: str) -> None:
        if id in self.targets and self.targets[id].draining_since is None:
            self.targets[id].draining_since = time.monotonic()

    def is_gone(self, id: str) -> bool:
        """Returns whether the target has been deregistered completely."""
        target = self.targets.get(id)
        if target is not None and target.draining_since is not None:
            if target.in_flight == 0 or time.monotonic() - target.draining_since > self.delay:
                del self.targets[id]
        return id not in self.targets

    def state(self, id: str) -> str:
        return self.targets[id].state if id in self.targets else "unused"

    def choose(self, node: str) -> Target | None:
        there = [target for target in list(self.targets.values()) if target.draining_since is None]
        healthy = [target for target in there if target.healthy.get(node)]
        return min(healthy or there, key=lambda target: target.in_flight, default=None)


class LoadBalancer:
    def __init__(self, properties: dict, subnets: list[dict]):
        attributes = {pair["Key"]: pair["Value"] for pair in properties.get("LoadBalancerAttributes", [])}
        self.idle = int(attributes.get("idle_timeout.timeout_seconds", 60))
        if len({subnet["AvailabilityZone"] for subnet in subnets}) < 2:
            raise ValueError("At least two subnets in two different Availability Zones must be specified")
        # The first addresses of a subnet are AWS's own. Networks that are not on this machine cannot be used.
        networks = [ipaddress.ip_network(subnet["CidrBlock"]) for subnet in subnets]
        self.nodes = [str(network[4]) if network[4].is_loopback else "127.0.0.1" for network in networks]
        self.turns = itertools.cycle(range(len(self.nodes)))
        self.group: TargetGroup | None = None
        self.http: web.Server | None = None
        self.server: asyncio.Server | None = None
        self.tasks: list[asyncio.Task] = []
        self.sessions: list[aiohttp.ClientSession] = []

    async def listen(self, properties: dict, group: TargetGroup) -> None:
        assert (properties["Protocol"], int(properties["Port"])) == ("HTTPS", 443)
        assert properties["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-")
        if not properties["Certificates"][0]["CertificateArn"].startswith("arn:aws:acm:us-east-1:"):
            raise ValueError("The certificate must be in the region of the load balancer")
        self.group = group
        for node in self.nodes:
            # Connections to targets are kept for the idle timeout, and used again.
            connector = aiohttp.TCPConnector(limit=0, local_addr=(node, 0), keepalive_timeout=self.idle)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.idle)
            session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
            session._retry_connection = False
            self.sessions.append(session)
        self.tasks = [LOOP.create_task(self.check(number, node)) for number, node in enumerate(self.nodes)]
        self.http = web.Server(self.forward)
        port = int(os.environ["LOAD_BALANCER_PORT"])
        self.server = await LOOP.create_server(self.http, "127.0.0.1", port, ssl=tls())

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            await self.http.shutdown(1.0)
        for task in self.tasks:
            task.cancel()
        for session in self.sessions:
            await session.close()

    async def check(self, number: int, node: str) -> None:
        """Checks the health of the targets at the interval, each with a connection of its own."""
        while True:
            targets = [target for target in self.group.targets.values() if target.draining_since is None]
            await asyncio.gather(*(self.check_one(node, f"{number} {node}", target) for target in targets))
            await asyncio.sleep(self.group.interval)

    async def check_one(self, node: str, key: str, target: Target) -> None:
        ok = False
        with contextlib.suppress(aiohttp.ClientError, OSError, asyncio.TimeoutError):
            connector = aiohttp.TCPConnector(local_addr=(node, 0), force_close=True)
            timeout = aiohttp.ClientTimeout(total=self.group.timeout)
            agent = {"User-Agent": "ELB-HealthChecker/2.0"}
            async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=agent) as session:
                async with session.get(f"http://127.0.0.1:{target.port}{self.group.path}") as response:
                    ok = response.status == 200
        target.checked(key, ok, self.group)

    async def forward(self, request: web.BaseRequest) -> web.StreamResponse:
        number = next(self.turns)
        target = self.group.choose(f"{number} {self.nodes[number]}")
        if target is None:
            return web.Response(status=503)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        forwarded = [value for name, value in headers if name.lower() == "x-forwarded-for"]
        headers = [(name, value) for name, value in headers if not name.lower().startswith("x-forwarded-")]
        headers.append(("X-Forwarded-For", ", ".join([*forwarded, request.remote])))
        headers += [("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "443")]
        url = yarl.URL(f"http://127.0.0.1:{target.port}{request.raw_path}", encoded=True)
        response = None
        target.in_flight += 1
        try:
            async with self.sessions[number].request(
                request.method, url, headers=headers,
                data=request.content if request.body_exists else None, allow_redirects=False,
                skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
            ) as answer:  # fmt: skip
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for name, value in answer.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        response.headers.add(name, value)
                await response.prepare(request)
                async for part in answer.content.iter_any():
                    await response.write(part)
                await response.write_eof()
                return response
        except (asyncio.TimeoutError, aiohttp.ClientError) as error:
            if response is not None and response.prepared:
                raise
            return web.Response(status=504 if isinstance(error, asyncio.TimeoutError) else 502)
        finally:
            target.in_flight -= 1


def tls() -> ssl.SSLContext:
    """Makes a certificate for the name, and writes it where the tests can read it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (Path(os.environ["EC2_SHIM_DISKS"]) / "certificate.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + secret)
        file.flush()
        context.load_cert_chain(file.name)
    return context
