"""ministack for tests, with the machines of its stacks on a separate EC2 emulator: $AWS_ENDPOINT_URL_EC2.

ministack's CloudFormation has no instances, and no other service sees its launch templates. Here a stack's security
groups, launch templates and instances are created by calls to EC2, so that machines get what the template specifies.
For an instance profile, one of the same name without a role is created there: what roles grant is checked elsewhere.
The lifecycle rules of buckets, which ministack ignores in a template, are set as S3's own API sets them.

As with CloudFormation, an instance with a creation policy is complete when it has signalled, and one that replaces another
does so before the other is terminated. Images that nothing was installed on cannot signal; nobody waits for those. Groups of instances and load balancers are
in auto_scaling.py and load_balancer.py.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import time
from pathlib import Path

import boto3
from ministack.app import main
from ministack.services import s3
from ministack.services.cloudformation import _stacks as stacks_by_name
from ministack.services.cloudformation import handlers, provisioners, stacks, wait_conditions
from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS as HANDLERS

sys.path.insert(0, str(Path(__file__).parent))
import logs_limits  # noqa: E402, F401
from auto_scaling import Group  # noqa: E402
from load_balancer import LoadBalancer, TargetGroup, run  # noqa: E402

DISKS = Path(os.environ["EC2_SHIM_DISKS"])

ec2, iam = (
    boto3.client(
        service, endpoint_url=os.environ["AWS_ENDPOINT_URL_EC2"], region_name="us-east-1",
        aws_access_key_id="cloudformation", aws_secret_access_key="cloudformation",
    )
    for service in ("ec2", "iam")
)  # fmt: skip


def with_rules(own):
    """Makes a handler of buckets set the lifecycle rules of the template."""

    def handler(*arguments):
        properties = arguments[-2]
        name, attributes = own(*arguments)
        rules = "".join(
            f"<Rule><ID>{rule['Id']}</ID><Status>{rule['Status']}</Status><Filter><Prefix>{rule.get('Prefix', '')}</Prefix>"
            f"</Filter><Expiration><Days>{rule['ExpirationInDays']}</Days></Expiration></Rule>"
            for rule in properties.get("LifecycleConfiguration", {}).get("Rules", [])
        )
        if rules:
            s3._put_bucket_lifecycle(name, f"<LifecycleConfiguration>{rules}</LifecycleConfiguration>".encode())
        return name, attributes

    return handler


def make_group(name, properties, stack):
    group = ec2.create_security_group(
        GroupName=f"{stack}-{name}", Description=properties["GroupDescription"], VpcId=properties["VpcId"]
    )["GroupId"]
    for rule in properties.get("SecurityGroupIngress", []):
        if "CidrIp" in rule:
            source = {"IpRanges": [{"CidrIp": rule["CidrIp"], "Description": rule["Description"]}]}
        else:
            source = {"UserIdGroupPairs": [{"GroupId": rule["SourceSecurityGroupId"]}]}
        ports = {"FromPort": int(rule["FromPort"]), "ToPort": int(rule["ToPort"])}
        ec2.authorize_security_group_ingress(
            GroupId=group, IpPermissions=[{"IpProtocol": rule["IpProtocol"]} | source | ports]
        )
    return group, {"GroupId": group}


def make_endpoint(name, properties, stack):
    keys = ("VpcEndpointType", "ServiceName", "VpcId", "SubnetIds", "SecurityGroupIds", "RouteTableIds")
    names = str(properties.get("PrivateDnsEnabled", "false")).lower() == "true"
    made = ec2.create_vpc_endpoint(PrivateDnsEnabled=names, **{key: properties[key] for key in keys if key in properties})
    return made["VpcEndpoint"]["VpcEndpointId"], {}


def update_endpoint(id, old, new, stack):
    """Adds and removes subnets and route tables. Other changes are not emulated."""
    given = {}
    for key in ("SubnetIds", "RouteTableIds"):
        before, after = old.get(key, []), new.get(key, [])
        given[f"Add{key}"] = [one for one in after if one not in before]
        given[f"Remove{key}"] = [one for one in before if one not in after]
    others = {key for key in old | new if old.get(key) != new.get(key)} - {"SubnetIds", "RouteTableIds"}
    if others:
        raise ValueError(f"not emulated: an update of {others}")
    ec2.modify_vpc_endpoint(VpcEndpointId=id, **{key: ids for key, ids in given.items() if ids})
    return id, {}


def profile(reference):
    """Creates an instance profile on the EC2 emulator, and returns its name."""
    name = reference.rsplit("/", 1)[-1]
    try:
        iam.create_instance_profile(InstanceProfileName=name)
    except iam.exceptions.EntityAlreadyExistsException:
        pass
    return name


def template_data(properties):
    data = dict(properties["LaunchTemplateData"])
    if "IamInstanceProfile" in data:
        data["IamInstanceProfile"] = {"Name": profile(data["IamInstanceProfile"]["Arn"])}
    return data


def template_answer(id):
    made = ec2.describe_launch_templates(LaunchTemplateIds=[id])["LaunchTemplates"][0]
    numbers = {key: str(made[key]) for key in ("DefaultVersionNumber", "LatestVersionNumber")}
    return id, {"LaunchTemplateId": id, "LaunchTemplateName": made["LaunchTemplateName"]} | numbers


def make_template(name, properties, stack):
    made = ec2.create_launch_template(
        LaunchTemplateName=properties["LaunchTemplateName"], LaunchTemplateData=template_data(properties)
    )
    return template_answer(made["LaunchTemplate"]["LaunchTemplateId"])


def update_template(id, old, new, stack):
    """Adds a version. The default version stays the same, as with CloudFormation. So does a rollback, which deletes no version; what
    refers to the attributes of a launch template is evaluated again."""
    data = template_data(new)
    if stacks_by_name[stack]["StackStatus"].startswith("UPDATE_ROLLBACK"):
        data["UserData"] = evaluated_again(data["UserData"])
    ec2.create_launch_template_version(LaunchTemplateId=id, LaunchTemplateData=data)
    return template_answer(id)


def evaluated_again(user_data):
    """Lets user data that state the latest version of a launch template state the one that is the latest now."""
    text = base64.b64decode(user_data).decode()
    if (found := re.search("LAUNCH_TEMPLATE=(lt-[0-9a-f]+)$", text, re.MULTILINE)) is None:
        return user_data
    _, attributes = template_answer(found[1])
    text = re.sub("LAUNCH_TEMPLATE_VERSION=[0-9]+", f"LAUNCH_TEMPLATE_VERSION={attributes['LatestVersionNumber']}", text)
    return base64.b64encode(text.encode()).decode()


def make_instance(name, properties, stack):
    given = {key: properties[key] for key in ("ImageId", "InstanceType", "KeyName") if key in properties}
    if "IamInstanceProfile" in properties:
        given["IamInstanceProfile"] = {"Name": profile(properties["IamInstanceProfile"])}
    given["NetworkInterfaces"] = [
        {
            "DeviceIndex": int(interface["DeviceIndex"]),
            "AssociatePublicIpAddress": str(interface["AssociatePublicIpAddress"]).lower() == "true",
            "SubnetId": interface["SubnetId"],
            "Groups": interface["GroupSet"],
        }
        for interface in properties["NetworkInterfaces"]
    ]
    template, version = (str(properties["LaunchTemplate"][key]) for key in ("LaunchTemplateId", "Version"))
    versions = ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[version])
    given["LaunchTemplate"] = {"LaunchTemplateId": template, "Version": version}
    # boto3 encodes the user data again.
    user_data = base64.b64decode(versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"]).decode()
    tags = [{"ResourceType": "instance", "Tags": properties.get("Tags", [])}]
    made = ec2.run_instances(MinCount=1, MaxCount=1, UserData=user_data, TagSpecifications=tags, **given)["Instances"][0]
    try:
        await_signal(name, properties, stack)
    except Exception:
        ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
        raise
    return made["InstanceId"], {"PublicDnsName": made.get("PublicDnsName") or "none", "InstanceId": made["InstanceId"]}


def await_signal(name, properties, stack):
    """Waits for the signals that the creation policy of an instance demands."""
    policy = definition(stack, name).get("CreationPolicy", {}).get("ResourceSignal")
    if policy is None or not (DISKS / properties["ImageId"]).is_dir():
        return
    count = wait_conditions.validate_count(policy.get("Count"), name)
    wait_for_signals(name, stack, "AWS::EC2::Instance", count, policy.get("Timeout"))


def definition(stack, name):
    """Returns the resource as the template has it, with the values of parameters."""
    values = {pair["ParameterKey"]: pair["ParameterValue"] for pair in stacks_by_name[stack]["Parameters"]}

    def filled(value):
        if isinstance(value, dict):
            named = values.get(value.get("Ref")) if len(value) == 1 else None
            return named if named is not None else {key: filled(part) for key, part in value.items()}
        return [filled(part) for part in value] if isinstance(value, list) else value

    return filled(provisioners._cfn_wait_condition_definition(stack, name))


def wait_for_signals(name, stack, type, count, timeout):
    """Waits for that many signals, and returns the unique ids that they carry."""
    timeout = wait_conditions.validate_resource_signal_timeout(timeout, name)
    # What a test sets once it expects that a signal is missing.
    if (longest := DISKS / "longest-wait").exists():
        timeout = min(timeout, float(longest.read_text()))
    id = provisioners._cr_stack_id(stack)
    slot = wait_conditions.register_slot(id)
    return wait_conditions.wait_for(slot, id, stack, name, type, count, timeout)


# Instances that others have replaced, by these. They are terminated when the update is complete.
REPLACED = {}


def update_instance(id, old, new, stack, name):
    """Replaces the instance, as CloudFormation does for these properties. Others are not emulated."""
    changed = [key for key in old | new if old.get(key) != new.get(key)]
    if not {"ImageId", "KeyName", "LaunchTemplate", "NetworkInterfaces"}.intersection(changed):
        raise ValueError(f"not emulated: an update of {changed}")
    made = make_instance(name, new, stack)
    REPLACED[made[0]] = id
    return made


def make_address(name, properties, stack):
    made = ec2.allocate_address(Domain=properties["Domain"])
    ec2.associate_address(AllocationId=made["AllocationId"], InstanceId=properties["InstanceId"])
    return made["PublicIp"], {"AllocationId": made["AllocationId"], "PublicIp": made["PublicIp"]}


def update_address(id, old, new, stack):
    """Associates the address with another instance. It is the last resource that an update changes."""
    allocation = address(id)["AllocationId"]
    ec2.associate_address(AllocationId=allocation, InstanceId=new["InstanceId"], AllowReassociation=True)
    if (replaced := REPLACED.pop(new["InstanceId"], None)) is not None:
        ec2.terminate_instances(InstanceIds=[replaced])
    return id, {"AllocationId": allocation, "PublicIp": id}


def delete_address(id, properties):
    found = address(id)
    if "AssociationId" in found:
        ec2.disassociate_address(AssociationId=found["AssociationId"])
    ec2.release_address(AllocationId=found["AllocationId"])


def address(id):
    return ec2.describe_addresses(PublicIps=[id])["Addresses"][0]


buckets = HANDLERS["AWS::S3::Bucket"]
HANDLERS["AWS::S3::Bucket"] = buckets | {key: with_rules(buckets[key]) for key in ("create", "update")}


def delete_instance(id, properties):
    """Terminates an instance, and waits until it is terminated: what it uses is deleted next."""
    ec2.terminate_instances(InstanceIds=[id])
    while state(id) != "terminated":
        time.sleep(0.1)


def state(id):
    return ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]["State"]["Name"]


# By their ARNs, and groups by their names.
TARGET_GROUPS, LOAD_BALANCERS, GROUPS = {}, {}, {}
AUTO_SCALING, LOAD_BALANCING = "AWS::AutoScaling::AutoScalingGroup", "AWS::ElasticLoadBalancingV2"
own = {kind: HANDLERS[f"{LOAD_BALANCING}::{kind}"] for kind in ("TargetGroup", "LoadBalancer", "Listener")}


def make_target_group(name, properties, stack):
    made = own["TargetGroup"]["create"](name, properties, stack)
    TARGET_GROUPS[made[0]] = TargetGroup(properties)
    return made


def make_load_balancer(name, properties, stack):
    subnets = ec2.describe_subnets(SubnetIds=properties["Subnets"])["Subnets"]
    balancer = LoadBalancer(properties, subnets)
    made = own["LoadBalancer"]["create"](name, properties, stack)
    LOAD_BALANCERS[made[0]] = balancer
    return made


def make_listener(name, properties, stack):
    balancer, group = properties["LoadBalancerArn"], properties["DefaultActions"][0]["TargetGroupArn"]
    run(LOAD_BALANCERS[balancer].listen(properties, TARGET_GROUPS[group]))
    return own["Listener"]["create"](name, properties, stack)


def delete_load_balancer(id, properties):
    run(LOAD_BALANCERS.pop(id).close())
    own["LoadBalancer"]["delete"](id, properties)


def signals(name, stack, properties, timeout):
    """Returns what waits for the signals of a group's instances."""
    version = properties["LaunchTemplate"]
    versions = ec2.describe_launch_template_versions(
        LaunchTemplateId=version["LaunchTemplateId"], Versions=[str(version["Version"])]
    )
    if not (DISKS / versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"]).is_dir():
        return None
    return lambda count: wait_for_signals(name, stack, AUTO_SCALING, count, timeout)


def make_scaling_group(name, properties, stack):
    policy = definition(stack, name)["CreationPolicy"]["ResourceSignal"]
    group = Group(ec2, profile, properties, [TARGET_GROUPS[arn] for arn in properties["TargetGroupARNs"]])
    assert int(policy["Count"]) == group.desired
    try:
        group.create(signals(name, stack, properties, policy["Timeout"]))
    except Exception:
        group.delete()
        raise
    id = f"{stack}-{name}-1"
    GROUPS[id] = group
    return id, {"AutoScalingGroupName": id}


def update_scaling_group(id, old, new, stack, name):
    policy = definition(stack, name)["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert str(policy["WaitOnResourceSignals"]).lower() == "true"
    GROUPS[id].update(old, new, policy, signals(name, stack, new, policy["PauseTime"]))
    return id, {"AutoScalingGroupName": id}


HANDLERS[f"{LOAD_BALANCING}::TargetGroup"] = own["TargetGroup"] | {"create": make_target_group}
HANDLERS[f"{LOAD_BALANCING}::LoadBalancer"] = {"create": make_load_balancer, "delete": delete_load_balancer}
HANDLERS[f"{LOAD_BALANCING}::Listener"] = {"create": make_listener, "delete": own["Listener"]["delete"]}
HANDLERS[AUTO_SCALING] = {
    "create": make_scaling_group,
    "update": update_scaling_group,
    "update_with_logical_id": True,
    "delete": lambda id, properties: GROUPS.pop(id).delete(),
}
HANDLERS["AWS::EC2::SecurityGroup"] = {
    "create": make_group,
    "delete": lambda id, properties: ec2.delete_security_group(GroupId=id),
}
HANDLERS["AWS::EC2::VPCEndpoint"] = {
    "create": make_endpoint,
    "update": update_endpoint,
    "delete": lambda id, properties: ec2.delete_vpc_endpoints(VpcEndpointIds=[id]),
}
HANDLERS["AWS::EC2::LaunchTemplate"] = {
    "create": make_template,
    "update": update_template,
    "delete": lambda id, properties: ec2.delete_launch_template(LaunchTemplateId=id),
}
HANDLERS["AWS::EC2::Instance"] = {
    "create": make_instance,
    "update": update_instance,
    "update_with_logical_id": True,
    "delete": delete_instance,
}
HANDLERS["AWS::EC2::EIP"] = {"create": make_address, "update": update_address, "delete": delete_address}

# ministack deletes a stack in any state, creates one again whose creation was rolled back, and ignores unknown parameters.
ACTIONS = handlers._ACTION_HANDLERS
own_actions = dict(ACTIONS)
UNDELETABLE = {
    "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
}  # fmt: skip


def status(parameters):
    stack = handlers._resolve_stack(handlers._p(parameters, "StackName"))
    return stack.get("StackStatus") if stack else None


def delete_stack(parameters):
    if (now := status(parameters)) in UNDELETABLE:
        return handlers._error("ValidationError", f"Stack cannot be deleted while in status {now}")
    return own_actions["DeleteStack"](parameters)


def create_stack(parameters):
    if status(parameters) not in (None, "DELETE_COMPLETE"):
        name = handlers._p(parameters, "StackName")
        return handlers._error("AlreadyExistsException", f"Stack [{name}] already exists")
    return own_actions["CreateStack"](parameters)


def update_stack(parameters):
    if body := handlers._p(parameters, "TemplateBody"):
        known, given = handlers._parse_template(body)["Parameters"], handlers._extract_members(parameters, "Parameters")
        if unknown := [pair["Key"] for pair in given if pair["Key"] not in known]:
            return handlers._error("ValidationError", f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    return own_actions["UpdateStack"](parameters)


ACTIONS |= {"DeleteStack": delete_stack, "CreateStack": create_stack, "UpdateStack": update_stack}

on_worker_thread = stacks._runs_on_worker_thread
stacks._runs_on_worker_thread = lambda type: type in ("AWS::EC2::Instance", AUTO_SCALING) or on_worker_thread(type)

if __name__ == "__main__":
    main()
