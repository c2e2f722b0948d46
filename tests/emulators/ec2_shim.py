"""EC2 for tests: moto's server with the lifecycle of instances, their metadata service, and real worker processes.

    ec2_shim.py PORT CONTROL_PORT

moto changes states immediately, ignores ClientToken and MaxCount, and starts instances in any state. Here, changes of
state take time, a call in the wrong state is refused, a ClientToken is honoured, capacity can be missing, and each
instance has its own metadata service (IMDSv2). With $EC2_SHIM_WORKER (a command, as a JSON list), a process is started
when an instance becomes running and ended when it stops, so that a test's fleet does real work. As systemd does with the
unit of workers, a process that fails is started again, and at the fifth failure the machine is powered off. With $EC2_SHIM_DISKS (a
folder), instances run their own user data instead: see ec2_boot.py. Each then serves HTTP on a port of its own, and what
connects to $EC2_SHIM_ADDRESS_PORT reaches the instance that has the elastic address.

The control port takes JSON:
    POST /delays   {"pending": 0.5, "stopping": 0.5, "shutting-down": 0.5, "image": 0.5}: seconds in these states
    POST /faults   [{"action": "RunInstances", "code": ..., "status": 500, "times": 2, "instance_type": ...}, ...]:
                   returns errors for the next calls (of that type), with "after": n after n more; with "capacity": n, fills
                   launches up to n instead
    POST /notice   {"id": ..., "notice": {"action": "terminate", "time": ...}}: announces a spot interruption; with
                   "rebalance": {"noticeTime": ...}, recommends to replace the instance
    POST /kill     {"id": ...}: ends the machine immediately
    POST /image    {"id": ..., "state": "failed"}: sets the state of an image
    POST /age      {"id": ..., "seconds": 7200}: lets EC2 say that it was launched that much earlier
    POST /interrupt {"seconds": 120}: announces to every spot instance that it is interrupted then, and does so
    POST /supply   {"vcpus": 8, "spot": false, "capacity": false, "lost": ["us-east-1a"], ...}: see ec2_supply.py; a zone
                   that is lost takes its machines with it
    GET /instances [{"id", "state", "pid", "metadata": URL, "profile": name or ARN, "tags": {...}, "port": that of its HTTP
                   server, "others": {UNIT: PID}}, ...]
    GET /calls     {"RunInstances": 3, ...}: how often each action was called
    GET /callers   {"RunInstances": ["test"], ...}: with which access keys
    GET /ledger    what is billed: see ec2_supply.py
"""

from __future__ import annotations

import base64
import collections
import contextlib
import copy
import datetime
import json
import os
import re
import secrets
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import flask
import moto.server
from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2 import ec2_backends
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, InstanceBackend, StateReason
from moto.ec2.models.amis import AMIS, Ami, AmiBackend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.ec2.responses import EC2Response

sys.path.insert(0, str(Path(__file__).parent))
import ec2_disks  # noqa: E402
from ec2_boot import Disk  # noqa: E402
from ec2_network import SERVICES, add_internet_gateway, reached  # noqa: E402
from ec2_supply import SUPPLY, entry, missing  # noqa: E402
from ports import free_port  # noqa: E402

# The number of an image that this source bakes.
FORMAT = re.search(
    r"^const IMAGE_FORMAT: u32 = (\d+);$",
    (Path(__file__).parents[2] / "src/cloud/aws/deploy/image_format.rs").read_text(),
    re.MULTILINE,
)[1]
# The images that tests launch. They are shared by another account, whose tags nobody else sees: two that it has baked, and a
# plain Linux.
AMIS += [
    {
        "ami_id": id, "name": id, "owner_id": "801119661308", "architecture": architecture, "public": True,
        "description": description,
    }
    for id, architecture, description in (
        ("ami-12345678", "x86_64", f"Rollcall 0.0.0, image format {FORMAT}"),
        ("ami-87654321", "arm64", f"Rollcall 0.0.0, image format {FORMAT}"),
        ("ami-11111111", "x86_64", "Ubuntu 24.04"),
    )
]  # fmt: skip

# One lock for everything: instances are changed by calls, by the clock and by the control port.
LOCK = threading.RLock()
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
NEXT = {"pending": "running", "stopping": "stopped", "shutting-down": "terminated"}
DELAYS = {"pending": 0.5, "stopping": 0.5, "shutting-down": 0.5, "image": 0.5}
FAULTS: list[dict] = []
CALLS: collections.Counter[str] = collections.Counter()
CALLERS: dict[str, set[str]] = collections.defaultdict(set)
MACHINES: dict[str, Machine] = {}
WORKER = json.loads(os.environ.get("EC2_SHIM_WORKER", "null"))
# The log of all machines. None: they write to the output of this program.
LOG = open(os.environ["EC2_SHIM_LOG"], "ab") if "EC2_SHIM_LOG" in os.environ else None  # noqa: SIM115
DISKS = Path(os.environ["EC2_SHIM_DISKS"]) if "EC2_SHIM_DISKS" in os.environ else None
SECRET = os.environ.get("EC2_SHIM_SECRET", "emulator")
# Nothing listens at this port ("discard").
NOWHERE = "http://127.0.0.1:9"
# How long a worker may take to end after SIGTERM, and how long systemd waits before it starts a failed one again.
WORKER_GRACE, WORKER_RESTART = 10.0, 0.5
# How many starts within how many seconds systemd makes before it powers the machine off (deploy/rollcall-worker.service).
START_LIMIT, START_LIMIT_INTERVAL = 5, 300.0


class Machine:
    """What moto does not track of an instance: when it entered its state, its process, and its metadata service."""

    def __init__(self, instance: Instance, profile: str | None):
        self.instance = instance
        self.profile = profile
        self.process: subprocess.Popen | None = None
        self.asked_to_end: subprocess.Popen | None = None
        self.since = time.monotonic()
        self.states: list[tuple[float, str]] = []
        self.interrupted_at: float | None = None
        self.restart_at = 0.0
        self.starts: list[float] = []
        self.notice: dict | None = None
        self.rebalance: dict | None = None
        self.disk: Disk | None = None
        self.boot: subprocess.Popen | None = None
        self.http_port = free_port()
        self.metadata = ThreadingHTTPServer(("127.0.0.1", 0), MetadataHandler)
        self.metadata.machine = self
        serve(self.metadata)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.metadata.server_port}"

    @property
    def state(self) -> str:
        return self.instance._state.name

    def enter(self, state: str) -> None:
        self.instance._state.name, self.instance._state.code = state, CODES[state]
        self.since = time.monotonic()
        self.states.append((self.since, state))

    def advance(self) -> None:
        """Does what is due at this time."""
        if self.interrupted_at is not None and self.interrupted_at <= time.monotonic():
            self.interrupted_at = None
            self.vanish("Server.SpotInstanceTermination")
        alive = self.process is not None and self.process.poll() is None
        age = time.monotonic() - self.since
        if self.state in ("stopping", "shutting-down") and alive:
            if age > WORKER_GRACE:
                self.process.kill()
            elif self.asked_to_end is not self.process:  # once, as systemd does
                self.asked_to_end = self.process
                self.process.terminate()
        elif self.disk and self.state in ("stopping", "shutting-down") and not self.disk.others.end(age):
            pass  # they end after the worker
        elif self.state == "pending" and self.instance.placement.availability_zone in SUPPLY["lost"]:
            self.vanish("Server.InternalError")
        elif self.state == "pending" and self.instance.lifecycle == "spot" and not SUPPLY["spot_key"]:
            self.vanish("Client.InternalError")
        elif self.state in NEXT and age >= DELAYS[self.state]:
            self.enter(NEXT[self.state])
            self.restart_at, self.starts = 0.0, []
        if self.state == "running" and not alive and (command := self.command()):
            if self.process is not None and self.process.poll() == 0:
                return  # it ended as it should, after asking EC2 to stop its instance
            self.starts = [at for at in self.starts if at > time.monotonic() - START_LIMIT_INTERVAL]
            if len(self.starts) >= START_LIMIT:
                code = "Client.InstanceInitiatedShutdown"
                self.instance.state_reason = StateReason(f"{code}: Instance initiated shutdown", code)
                self.enter("stopping")
            elif time.monotonic() >= self.restart_at:
                self.starts.append(time.monotonic())
                arguments, environment, folder = command
                environment = environment | {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.endpoint}
                if self.disk:
                    self.process = self.disk.journal.start(self.disk.enabled()[-1], arguments, environment, folder, LOG)
                else:
                    self.process = subprocess.Popen(
                        arguments, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=LOG, stderr=LOG
                    )
                self.restart_at = time.monotonic() + WORKER_RESTART
        if self.disk and self.state == "running" and self.boot.poll() is not None:
            self.disk.others.run(self.endpoint, self.unreachable(), LOG)
        if self.disk and self.state == "running" and self.disk.switched_off():
            self.enter("stopping")
        if self.state in ("stopped", "terminated"):
            self.process = None
            if self.boot is not None and self.boot.poll() is None:
                os.killpg(self.boot.pid, signal.SIGKILL)  # a script that was still running

    def command(self) -> tuple[list[str], dict[str, str], str | None] | None:
        """Returns what should run on the machine now: command, environment and folder."""
        if WORKER:
            return WORKER, dict(os.environ), None
        user_data = base64.b64decode(str(self.instance.user_data or "")).decode()
        if DISKS is None or not user_data.startswith("#!"):
            return None
        if self.disk is None:
            self.disk = Disk(DISKS, self.instance.id, self.instance.image_id, user_data)
            self.boot = self.disk.first_boot(self.endpoint)
        unit = self.disk.unit() if self.boot.poll() is not None else None
        if unit is None:
            return None
        arguments, environment, folder = unit
        environment = environment | self.unreachable()
        return arguments, environment | {"ROLLCALL__HTTP__LISTEN": f"127.0.0.1:{self.http_port}"}, folder

    def unreachable(self) -> dict[str, str]:
        """Returns the endpoints of services that the machine's network does not lead to."""
        there = reached(self.instance)
        return {f"AWS_ENDPOINT_URL_{id}": NOWHERE for name, id in SERVICES.items() if name not in there}

    def tags(self) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.instance.get_tags()}

    def vanish(self, code: str = "Server.SpotInstanceTermination") -> None:
        if self.state in ("shutting-down", "terminated"):
            return
        if self.disk:
            self.disk.others.kill()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        moto_terminate(self.instance)  # deletes its disk
        self.enter("terminated")
        self.instance._reason = code
        self.instance.state_reason = StateReason(f"{code}: Instance terminated by EC2", code)


class Address(socketserver.StreamRequestHandler):
    """Forwards a connection to the instance that the elastic address is associated with."""

    def handle(self) -> None:
        with LOCK:
            backends = [backend for regions in ec2_backends.values() for backend in regions.values()]
            addresses = [address for backend in backends for address in backend.addresses]
            machines = [MACHINES[address.instance.id] for address in addresses if address.instance]
        if not machines:
            return
        try:
            with socket.create_connection(("127.0.0.1", machines[0].http_port)) as other:
                back = threading.Thread(target=copy_bytes, args=(other, self.request), daemon=True)
                back.start()
                copy_bytes(self.request, other)
                back.join()
        except OSError:
            return  # the instance does not listen, or one of them has gone


def copy_bytes(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class AddressServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


def serve(server: socketserver.TCPServer) -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()


def clock() -> None:
    while True:
        with LOCK:
            for machine in MACHINES.values():
                machine.advance()
        time.sleep(0.05)


def refuse(code: str, message: str) -> EC2ClientError:
    return EC2ClientError(code, message)


# How EC2 handles calls. moto's own methods update network interfaces and reasons; the resulting state is set here.


def changed(instance: Instance, own, state: str, may: set[str], done: set[str], verb: str):
    """Runs moto's method `own` and enters `state`. Does nothing in a state of `done`; refuses in one not in `may`."""
    before = copy.copy(instance._state)
    if before.name in done:
        return before
    if before.name not in may:
        raise refuse("IncorrectInstanceState", f"The instance '{instance.id}' is not in a state from which it can be {verb}.")
    own(instance)
    MACHINES[instance.id].enter(state)
    return before


moto_start, moto_stop, moto_terminate = Instance.start, Instance.stop, Instance.terminate


def start(instance: Instance):
    if instance._state.name == "stopped":
        instance.launch_time = utcnow()
    return changed(instance, moto_start, "pending", {"stopped"}, {"pending", "running"}, "started")


def stop(instance: Instance):
    if instance.lifecycle == "spot":
        raise refuse("UnsupportedOperation", f"You can't stop the Spot Instance '{instance.id}' of a one-time request.")
    return changed(instance, moto_stop, "stopping", {"running"}, {"stopping", "stopped"}, "stopped")


def terminate(instance: Instance):
    alive = {"pending", "running", "stopping", "stopped"}
    return changed(instance, moto_terminate, "shutting-down", alive, {"shutting-down", "terminated"}, "terminated")


moto_run = InstanceBackend.run_instances
TOKENS: dict[str, tuple[str, object]] = {}


def run_instances(self, image_id, count, user_data, security_group_names, **kwargs):
    form = dict(flask.request.form)
    token = form.pop("ClientToken", None)
    request = json.dumps(form, sort_keys=True)
    with LOCK:
        if token in TOKENS:
            first, reservation = TOKENS[token]
            if first != request:
                raise refuse("IdempotentParameterMismatch", "The arguments differ from those of the first request.")
            if all(i._state.name == "terminated" for i in reservation.instances):
                raise refuse("IdempotentInstanceTerminated", "The client token belongs to terminated instances.")
            return reservation
        if len(base64.b64decode(form.get("UserData", ""))) > 16384:
            raise refuse("InvalidParameterValue", "User data is limited to 16384 bytes")
        count = int(form.get("MaxCount", count))
        for fault in FAULTS:
            if "capacity" in fault and fault.get("instance_type", form.get("InstanceType")) == form.get("InstanceType"):
                count = min(count, fault["capacity"])
        check_architecture(self, image_id, form, kwargs)
        check_groups(self, form, kwargs)
        reservation = moto_run(self, image_id, count, user_data, security_group_names, **kwargs)
        version = self._get_template_from_args(kwargs["launch_template"]) if kwargs.get("launch_template") else None
        template = version.data if version else {}
        profiles = [kwargs.get("iam_instance_profile_name"), kwargs.get("iam_instance_profile_arn")]
        profiles += template.get("IamInstanceProfile", {}).values()
        profile = next(filter(None, profiles), None)
        for instance in reservation.instances:
            MACHINES[instance.id] = Machine(instance, profile)
            MACHINES[instance.id].enter("pending")
            if version:
                # As EC2 tags instances itself.
                of = {"id": version.template.id, "version": str(version.number)}
                instance.add_tags({f"aws:ec2launchtemplate:{key}": value for key, value in of.items()})
        if token:
            TOKENS[token] = (request, reservation)
    return reservation


def check_architecture(backend, image_id, form, kwargs) -> None:
    """Refuses a type that cannot run the image."""
    version = backend._get_template_from_args(kwargs["launch_template"]) if kwargs.get("launch_template") else None
    template = version.data if version else {}
    image = backend.amis.get(image_id or template.get("ImageId"))
    of_type = INSTANCE_TYPES.get(form.get("InstanceType") or template.get("InstanceType"), {}).get("ProcessorInfo", {})
    supported = of_type.get("SupportedArchitectures")
    if image is not None and supported and image.architecture not in supported:
        # The text is EC2's.
        raise refuse(
            "InvalidParameterValue",
            f"The architecture '{','.join(supported)}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI. Specify an instance type and an AMI that have matching architectures, "
            "and try again.",
        )


def check_groups(backend, form, kwargs) -> None:
    """Refuses groups of the instance, also those of its template, beside a network interface."""
    version = backend._get_template_from_args(kwargs["launch_template"]) if kwargs.get("launch_template") else None
    of_template = version is not None and version.data.get("SecurityGroupIds")
    of_instance = of_template or any(key.startswith("SecurityGroup") for key in form)
    if of_instance and any(key.startswith("NetworkInterface.") for key in form):
        # The text is EC2's.
        raise refuse(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level security groups may not be specified on the same request",
        )


def all_or_none(own, check):
    """Makes a call change no instance if one of them refuses it."""

    def call(self, instance_ids):
        with LOCK:
            for instance in self.get_multi_instances_by_id(instance_ids):
                check(instance)
            return own(self, instance_ids)

    return call


def check_start(instance: Instance) -> None:
    if instance._state.name not in {"stopped", "pending", "running"}:
        start(instance)  # refuses


def check_stop(instance: Instance) -> None:
    if instance.lifecycle == "spot" or instance._state.name not in {"running", "stopping", "stopped"}:
        stop(instance)  # refuses


moto_image = AmiBackend.create_image


def create_image(self, instance_id, name, description, tag_specifications):
    """Creates an image with tags for snapshots, which moto refuses. It takes some time to become available."""
    snapshots = [s for s in tag_specifications if s["ResourceType"] == "snapshot"]
    others = [s for s in tag_specifications if s["ResourceType"] != "snapshot"]
    ami = moto_image(self, instance_id, name, description, others)
    ec2_disks.encrypt(ami.ebs_snapshot, self)
    ami.ebs_snapshot.add_tags({t["Key"]: t["Value"] for s in snapshots for t in s["Tags"]})
    IMAGES[ami.id] = time.monotonic()
    if (disk := MACHINES[instance_id].disk) is not None:
        disk.image(DISKS, ami.id)
    return ami


moto_delete_group = SecurityGroupBackend.delete_security_group


def delete_security_group(self, name=None, group_id=None):
    """Refuses to delete a group that a machine uses until that is terminated."""
    for machine in MACHINES.values():
        groups = [*machine.instance.security_groups]
        for interface in machine.instance.nics.values():
            groups += interface.group_set
        if machine.state != "terminated" and any(group_id in (group.id, group.group_id) for group in groups):
            raise EC2ClientError("DependencyViolation", f"resource {group_id} has a dependent object")
    return moto_delete_group(self, name, group_id)


SecurityGroupBackend.delete_security_group = delete_security_group

moto_copy = AmiBackend.copy_image


def copy_image(self, source_image_id, source_region, name=None, description=None):
    """Copies an image. Tags and description are only those that the call states."""
    ami = moto_copy(self, source_image_id, source_region, name, description)
    ami.description = description
    return ami


IMAGES: dict[str, float] = {}
AmiBackend.create_image, AmiBackend.copy_image = create_image, copy_image
# The states of images that a test has set, by their ids.
IMAGE_STATES: dict[str, str] = {}


def image_state(ami) -> str:
    is_new = time.monotonic() - IMAGES.get(ami.id, -1e9) < DELAYS["image"]
    return IMAGE_STATES.get(ami.id) or ("pending" if is_new else "available")


Ami.state = property(image_state, lambda ami, state: None)


def get_console_output(self) -> ActionResult:
    disk = MACHINES[self._get_param("InstanceId")].disk
    text = disk.console.read_text() if disk is not None and disk.console.exists() else ""
    return ActionResult({"InstanceId": self._get_param("InstanceId"), "Output": Base64EncodedString.from_raw_string(text)})


EC2Response.get_console_output = get_console_output


Instance.start, Instance.stop, Instance.terminate = start, stop, terminate
InstanceBackend.run_instances = run_instances
InstanceBackend.start_instances = all_or_none(InstanceBackend.start_instances, check_start)
InstanceBackend.stop_instances = all_or_none(InstanceBackend.stop_instances, check_stop)
InstanceBackend.terminate_instances = all_or_none(InstanceBackend.terminate_instances, lambda instance: None)

moto_call = EC2Response.call_action


def failure(code: str, message: str, status: int) -> tuple[int, dict[str, str], str]:
    body = f"<Code>{code}</Code><Message>{message}</Message>"
    body = f"<Response><Errors><Error>{body}</Error></Errors><RequestID>r</RequestID></Response>"
    return status, {"Content-Type": "text/xml"}, body


def call_action(self):
    action = self._get_action()
    with LOCK:
        CALLS[action] += 1
        CALLERS[action].add(re.search("Credential=([^/]*)/", flask.request.headers.get("Authorization", "Credential=/"))[1])
        for fault in FAULTS:
            if "capacity" in fault or fault["action"] != action or fault.get("times", 1) == 0:
                continue
            instance_type = flask.request.form.get("InstanceType")
            if fault.get("instance_type", instance_type) != instance_type:
                continue
            if fault.get("after", 0) > 0:
                fault["after"] -= 1
                continue
            fault["times"] = fault.get("times", 1) - 1
            return failure(fault["code"], "injected", fault.get("status", 400))
        # A launch that is repeated with its token needs nothing.
        if flask.request.form.get("ClientToken") not in TOKENS:
            refusal = missing(action, flask.request.form, self.ec2_backend, [m.instance for m in MACHINES.values()])
            if refusal:
                return failure(*refusal)
        return moto_call(self)


EC2Response.call_action = call_action


class JsonHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, text: str = "", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        data = text.encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class MetadataHandler(JsonHandler):
    """The instance metadata service, version 2: nothing without a token."""

    tokens: dict[str, float] = {}

    def do_PUT(self) -> None:
        self.body()
        token, seconds = secrets.token_urlsafe(), self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        if self.path != "/latest/api/token" or seconds is None:
            return self.answer(400)
        self.tokens[token] = time.monotonic() + int(seconds)
        self.answer(200, token, X_aws_ec2_metadata_token_ttl_seconds=seconds)

    def do_GET(self) -> None:
        if self.tokens.get(self.headers.get("X-aws-ec2-metadata-token", ""), 0) < time.monotonic():
            return self.answer(401)
        machine: Machine = self.server.machine
        # Workers that a test starts directly always have a role.
        has_role = machine.profile or WORKER is not None
        values = {
            "instance-id": machine.instance.id,
            "instance-type": machine.instance.instance_type,
            "placement/region": "us-east-1",
            "placement/availability-zone": machine.instance.placement.availability_zone,
            "iam/security-credentials/": "worker" if has_role else None,
            "iam/security-credentials/worker": json.dumps(credentials(machine.instance.id)) if has_role else None,
            "spot/instance-action": json.dumps(machine.notice) if machine.notice else None,
            "events/recommendations/rebalance": json.dumps(machine.rebalance) if machine.rebalance else None,
        }
        value = values.get(self.path.removeprefix("/latest/meta-data/"))
        self.answer(404) if value is None else self.answer(200, value)


def credentials(id: str) -> dict[str, str]:
    """The credentials of an instance's role. Its access key tells which instance uses them."""
    hour = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    keys = {"AccessKeyId": f"ASIA{id}", "SecretAccessKey": SECRET, "Token": SECRET, "Expiration": hour}
    return {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z"} | keys


class ControlHandler(JsonHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.body() or "{}")
        with LOCK:
            if self.path == "/delays":
                DELAYS.update(asked)
            elif self.path == "/faults":
                FAULTS[:] = asked
            elif self.path == "/notice":
                MACHINES[asked["id"]].notice = asked.get("notice")
                MACHINES[asked["id"]].rebalance = asked.get("rebalance")
            elif self.path == "/image":
                IMAGE_STATES[asked["id"]] = asked["state"]
            elif self.path == "/age":
                MACHINES[asked["id"]].instance.launch_time -= datetime.timedelta(seconds=asked["seconds"])
            elif self.path == "/kill":
                MACHINES[asked["id"]].vanish()
            elif self.path == "/interrupt":
                notice = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + asked["seconds"]))
                for machine in MACHINES.values():
                    if machine.instance.lifecycle == "spot" and machine.state in ("pending", "running"):
                        machine.notice = {"action": "terminate", "time": notice}
                        machine.interrupted_at = time.monotonic() + asked["seconds"]
            elif self.path == "/supply":
                SUPPLY.update(asked)
                for machine in MACHINES.values():
                    if machine.instance.placement.availability_zone in SUPPLY["lost"]:
                        machine.vanish("Server.InternalError")
            else:
                return self.answer(404)
        self.answer(200)

    def do_GET(self) -> None:
        with LOCK:
            if self.path == "/calls":
                return self.answer(200, json.dumps(CALLS))
            if self.path == "/callers":
                return self.answer(200, json.dumps({action: sorted(keys) for action, keys in CALLERS.items()}))
            if self.path == "/ledger":
                ledger = [entry(m.instance, m.states) for m in MACHINES.values()]
                return self.answer(200, json.dumps({"now": time.monotonic(), "instances": ledger}))
            machines = [
                {
                    "id": id, "state": m.state, "pid": m.process and m.process.pid, "metadata": m.endpoint,
                    "profile": m.profile, "tags": m.tags(), "port": m.http_port, "reached": sorted(reached(m.instance)),
                } | ({"others": m.disk.others.pids()} if m.disk else {})  # fmt: skip
                for id, m in MACHINES.items()
            ]
        self.answer(200, json.dumps(machines))


if __name__ == "__main__":
    port, control_port = sys.argv[1:]
    add_internet_gateway(ec2_backends["123456789012"]["us-east-1"])
    serve(ThreadingHTTPServer(("127.0.0.1", int(control_port)), ControlHandler))
    if "EC2_SHIM_ADDRESS_PORT" in os.environ:
        serve(AddressServer(("127.0.0.1", int(os.environ["EC2_SHIM_ADDRESS_PORT"])), Address))
    threading.Thread(target=clock, daemon=True).start()
    moto.server.main(["-H", "127.0.0.1", "-p", port])
