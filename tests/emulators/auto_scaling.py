"""Auto Scaling groups of the emulated AWS: they keep as many machines as they should, and replace what has failed.

A group launches its machines on the emulated EC2 by its launch template, in the subnet that has the fewest. A machine that runs
is registered with the target group. It is replaced when it does not run any more or, if the group heeds the load balancer's
checks and after the grace period, when they fail. Before the group terminates a machine, it waits until that is deregistered.
How often a group has looked while these checks had failed on all of its machines, and the grace period of each was over, is
in the file `unhealthy-looks` beside the disks.

As CloudFormation does, `create` and `roll` wait for the signals that the policies of the resource demand, each with the
id of the machine as its unique id; `roll` keeps as many machines as its policy says, and returns to the version before if a
signal is missing.
"""

from __future__ import annotations

import base64
import contextlib
import os
import threading
import time
from pathlib import Path

from load_balancer import SPEED, TargetGroup, machines

# Time between the looks of a group at its machines, and the longest wait for machines to go.
LOOK, GONE = 0.1, 60.0


class Member:
    def __init__(self, id: str, version: tuple, subnet: str):
        self.id, self.version, self.subnet = id, version, subnet
        self.in_service_since: float | None = None
        self.terminating = False


class Group:
    """`ec2` is a client of the emulated EC2, `profile` creates an instance profile there, and `await_signals(count, timeout)`
    waits for signals and returns the ids that they carry. Without it, nobody waits."""

    def __init__(self, ec2, profile, properties: dict, targets: list[TargetGroup]):
        self.ec2, self.profile, self.targets = ec2, profile, targets
        self.lock = threading.RLock()
        self.members: list[Member] = []
        # While CloudFormation rolls an update, it alone decides about the size, and some processes are suspended.
        self.rolling = False
        self.suspended: set[str] = set()
        self.ended = False
        self.unhealthy_looks = 0
        self.configure(properties)
        threading.Thread(target=self.watch, daemon=True).start()

    def configure(self, properties: dict) -> None:
        template = properties["LaunchTemplate"]
        self.version = (template["LaunchTemplateId"], str(template["Version"]))
        self.subnets = properties["VPCZoneIdentifier"]
        self.smallest, self.largest = int(properties["MinSize"]), int(properties["MaxSize"])
        self.desired = int(properties["DesiredCapacity"])
        assert self.smallest <= self.desired <= self.largest
        self.by_load_balancer = properties.get("HealthCheckType") == "ELB"
        self.grace = int(properties["HealthCheckGracePeriod"]) / SPEED
        # CloudFormation propagates a stack's own tags too.
        self.tags = [
            {"Key": tag["Key"], "Value": tag["Value"]}
            for tag in properties.get("Tags", [])
            if str(tag.get("PropagateAtLaunch", True)).lower() == "true" and not tag["Key"].startswith("aws:")
        ]

    def launch(self) -> Member:
        template, version = self.version
        found = self.ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[version])
        data = found["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        used = [member.subnet for member in self.alive()]
        subnet = min(self.subnets, key=used.count)
        given = {key: data[key] for key in ("ImageId", "InstanceType", "KeyName") if key in data}
        # What a group launches has no role, no group and no address but those of its launch template.
        if "IamInstanceProfile" in data:
            given["IamInstanceProfile"] = {"Name": self.profile(str(list(data["IamInstanceProfile"].values())[0]))}
        given["NetworkInterfaces"] = [
            {
                "DeviceIndex": interface["DeviceIndex"], "SubnetId": subnet, "Groups": interface["Groups"],
                "AssociatePublicIpAddress": interface["AssociatePublicIpAddress"],
            }
            for interface in data["NetworkInterfaces"]
        ]  # fmt: skip
        made = self.ec2.run_instances(
            MinCount=1, MaxCount=1, LaunchTemplate={"LaunchTemplateId": template, "Version": version},
            UserData=base64.b64decode(data["UserData"]).decode(),
            TagSpecifications=[{"ResourceType": "instance", "Tags": self.tags}], **given,
        )  # fmt: skip
        member = Member(made["Instances"][0]["InstanceId"], self.version, subnet)
        self.members.append(member)
        return member

    def alive(self) -> list[Member]:
        return [member for member in self.members if not member.terminating]

    def end(self, member: Member) -> None:
        """Deregisters a machine; `watch` terminates it when that is done."""
        member.terminating = True
        for group in self.targets:
            group.deregister(member.id)

    def watch(self) -> None:
        while not self.ended:
            time.sleep(LOOK)
            with contextlib.suppress(OSError), self.lock:
                self.look(machines())

    def look(self, there: dict[str, dict]) -> None:
        if self.alive() and all([self.is_unhealthy(member) for member in self.alive()]):
            self.unhealthy_looks += 1
            (Path(os.environ["EC2_SHIM_DISKS"]) / "unhealthy-looks").write_text(str(self.unhealthy_looks))
        for member in list(self.members):
            state = there[member.id]["state"]
            if member.terminating and all([group.is_gone(member.id) for group in self.targets]):
                if state in ("pending", "running", "stopping", "stopped"):
                    self.ec2.terminate_instances(InstanceIds=[member.id])
                elif state == "terminated":
                    self.members.remove(member)
            elif not member.terminating and state == "running" and member.in_service_since is None:
                member.in_service_since = time.monotonic()
                for group in self.targets:
                    group.register(member.id)
            elif not member.terminating and self.has_failed(member, state) and not self.suspended & {"HealthCheck", "ReplaceUnhealthy"}:
                self.end(member)
        if not self.rolling and not self.ended:
            for _ in range(self.desired - len(self.alive())):
                self.launch()
            for member in self.alive()[self.desired :]:
                self.end(member)

    def has_failed(self, member: Member, state: str) -> bool:
        if state not in ("pending", "running"):
            return True
        return self.by_load_balancer and self.is_unhealthy(member)

    def is_unhealthy(self, member: Member) -> bool:
        """Returns whether the load balancer finds a machine unhealthy after the grace period."""
        if member.in_service_since is None or time.monotonic() - member.in_service_since < self.grace:
            return False
        return any(group.state(member.id) not in ("healthy", "draining") for group in self.targets)

    def create(self, await_signals) -> None:
        """Launches the machines, and waits for their signals."""
        with self.lock:
            made = [self.launch() for _ in range(self.desired)]
        self.expect(made, await_signals)

    def expect(self, made: list[Member], await_signals) -> None:
        if await_signals is None or not made:
            return
        ids = {member.id for member in made}
        signalled = set(await_signals(len(ids)))
        if signalled != ids:
            raise ValueError(f"{signalled} signalled, but {ids} were expected")

    def roll(self, policy: dict, await_signals) -> None:
        """Replaces the machines that were launched otherwise than the group launches now."""
        batch, least = int(policy["MaxBatchSize"]), int(policy["MinInstancesInService"])
        assert least < self.largest, "MinInstancesInService must be less than MaxSize"
        self.rolling, self.suspended = True, set(policy.get("SuspendProcesses", []))
        try:
            while outdated := [m for m in self.alive() if m.version != self.version or m.subnet not in self.subnets]:
                outdated = outdated[:batch]
                with self.lock:
                    missing = min(least - (len(self.alive()) - len(outdated)), self.largest - len(self.alive()))
                    made = [self.launch() for _ in range(missing)]
                self.expect(made, await_signals)
                with self.lock:
                    for member in outdated:
                        self.end(member)
                    made = [self.launch() for _ in range(self.desired - len(self.alive()))]
                self.expect(made, await_signals)
        finally:
            self.rolling, self.suspended = False, set()

    def update(self, old: dict, new: dict, policy: dict, await_signals) -> None:
        with self.lock:
            self.configure(new)
        try:
            self.roll(policy, await_signals)
        except Exception:
            with self.lock:
                self.configure(old)
            self.roll(policy, await_signals)
            raise

    def delete(self) -> None:
        """Ends all machines, and waits until they are terminated."""
        with self.lock:
            self.desired = self.smallest = 0
            for member in self.alive():
                self.end(member)
        deadline = time.monotonic() + GONE
        while self.members and time.monotonic() < deadline:
            time.sleep(LOOK)
        self.ended = True
        if self.members:
            raise TimeoutError("the machines of the group are still there")
