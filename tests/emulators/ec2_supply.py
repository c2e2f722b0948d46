"""What the emulated EC2 has to give, and what it bills.

The supply (POST /supply of the control port):
    vcpus     the quota of on-demand instances: a call that exceeds it is refused whole. Null: no quota.
    capacity  whether there is capacity at all
    spot      whether there is spot capacity
    spot_key  whether the service-linked role of spot instances may use the key of their disks; if not, EC2 ends each
              before it runs ("Client.InternalError")
    addresses free addresses that a subnet has at first: a call that exceeds it is refused whole. Null: enough.
    no_types  instance types that the region does not have
    lost      zones that are gone
    how       what a launch or start in such a zone comes to: the code of an error, or of the reason for which EC2 ends the
              instance before it runs ("Server.InternalError")

The ledger (GET /ledger): for each instance its type, zone, whether it is a spot instance, whether EC2 itself ended it,
the size of its disk, and when it entered each state, in seconds of the same clock as "now".
"""

from __future__ import annotations

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPES, InstanceTypeBackend

SUPPLY: dict = {
    "vcpus": None,
    "capacity": True,
    "spot": True,
    "spot_key": True,
    "addresses": None,
    "no_types": [],
    "lost": [],
    "how": "InsufficientInstanceCapacity",
}
STATUS = {"InsufficientInstanceCapacity": 500, "Unavailable": 503}
# EC2 states no more than that the vCPUs of running instances count; one that has not ended yet may still.
COUNTED = {"pending", "running", "stopping", "shutting-down"}
# The disk of Ubuntu's image, in GB.
DISK_GB = 8
# Most types that a call may name (the reference of DescribeInstanceTypes).
MAX_NAMED = 100

moto_describe = InstanceTypeBackend.describe_instance_types


def describe_instance_types(self, instance_types=None, filters=None):
    if len(instance_types or []) > MAX_NAMED:
        raise EC2ClientError("InvalidParameterValue", f"The maximum number of instance types that can be specified is {MAX_NAMED}.")
    if unknown := [name for name in instance_types or [] if name in SUPPLY["no_types"]]:
        raise EC2ClientError("InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(unknown)}]")
    return [kind for kind in moto_describe(self, instance_types, filters) if kind["InstanceType"] not in SUPPLY["no_types"]]


InstanceTypeBackend.describe_instance_types = describe_instance_types


def vcpus(instance_type: str) -> int:
    return INSTANCE_TYPES[instance_type]["VCpuInfo"]["DefaultVCpus"]


def missing(action: str, form, backend, instances: list) -> tuple[str, str, int] | None:
    """Returns code, message and status of the error by which EC2 refuses a launch or start, if it does."""
    if action == "RunInstances":
        spot = form.get("InstanceMarketOptions.MarketType") == "spot"
        zones = {backend.get_subnet(form["SubnetId"]).availability_zone} if form.get("SubnetId") else set()
        needed = int(form.get("MaxCount", 1)) * vcpus(form.get("InstanceType", "m1.small"))
    elif action == "StartInstances":
        ids = {value for key, value in form.items() if key.startswith("InstanceId.")}
        stopped = [i for i in instances if i.id in ids and i._state.name == "stopped"]
        spot, zones = False, {i.placement.availability_zone for i in stopped}
        needed = sum(vcpus(i.instance_type) for i in stopped)
    else:
        return None
    if not SUPPLY["capacity"] or (spot and not SUPPLY["spot"]):
        return "InsufficientInstanceCapacity", "There is no capacity available that matches your request.", 500
    if zones & set(SUPPLY["lost"]) and (status := STATUS.get(SUPPLY["how"])):
        return SUPPLY["how"], "The Availability Zone cannot serve the request.", status
    if action == "RunInstances" and SUPPLY["addresses"] is not None:
        subnet = form.get("SubnetId")
        taken = sum(1 for i in instances if i._state.name != "terminated" and (not subnet or i.subnet_id == subnet))
        if taken + int(form.get("MaxCount", 1)) > SUPPLY["addresses"]:
            return "InsufficientFreeAddressesInSubnet", "There are not enough free addresses in the subnet.", 400
    used = sum(vcpus(i.instance_type) for i in instances if i._state.name in COUNTED and i.lifecycle != "spot")
    if not spot and SUPPLY["vcpus"] is not None and needed and used + needed > SUPPLY["vcpus"]:
        limit = SUPPLY["vcpus"]
        return "VcpuLimitExceeded", f"You have requested more vCPU capacity than your current vCPU limit of {limit}", 400
    return None


def entry(instance, states: list[tuple[float, str]]) -> dict:
    """Returns an instance's entry in the ledger."""
    reason = instance.state_reason.code if getattr(instance, "state_reason", None) else ""
    return {
        "id": instance.id,
        "type": instance.instance_type,
        "zone": instance.placement.availability_zone,
        "spot": instance.lifecycle == "spot",
        "ended_by_ec2": (reason or "").startswith("Server."),
        "disk_gb": DISK_GB,
        "states": states,
    }
