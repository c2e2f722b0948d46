"""ministack for tests, with the machines of its stacks on a separate EC2 emulator: $AWS_ENDPOINT_URL_EC2.

ministack's CloudFormation has no instances, and no other service sees its launch templates. Here a stack's security
groups, launch templates and instances are created by calls to EC2, so that machines get what the template specifies.
For an instance profile, one of the same name without a role is created there: what roles grant is checked elsewhere.
The lifecycle rules of buckets, which ministack ignores in a template, are set as S3's own API sets them.

As with CloudFormation, an instance with a creation policy is complete when it has signalled, and one that replaces another
does so before the other is terminated. Images that nothing was installed on cannot signal; nobody waits for those.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import boto3
from ministack.app import main
from ministack.services import s3
from ministack.services.cloudformation import provisioners, stacks, wait_conditions
from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS as HANDLERS

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
    made = ec2.create_vpc_endpoint(**{key: properties[key] for key in keys if key in properties})
    return made["VpcEndpoint"]["VpcEndpointId"], {}


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
    """Adds a version. The default version stays the same, as with CloudFormation."""
    ec2.create_launch_template_version(LaunchTemplateId=id, LaunchTemplateData=template_data(new))
    return template_answer(id)


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
    template, version = (properties["LaunchTemplate"][key] for key in ("LaunchTemplateId", "Version"))
    versions = ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[str(version)])
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
    policy = provisioners._cfn_wait_condition_definition(stack, name).get("CreationPolicy", {}).get("ResourceSignal")
    if policy is None or not (DISKS / properties["ImageId"]).is_dir():
        return
    count = wait_conditions.validate_count(policy.get("Count"), name)
    timeout = wait_conditions.validate_resource_signal_timeout(policy.get("Timeout"), name)
    timeout = min(timeout, float(os.environ.get("CLOUDFORMATION_SHIM_LONGEST_WAIT", timeout)))
    id = provisioners._cr_stack_id(stack)
    slot = wait_conditions.register_slot(id)
    wait_conditions.wait_for(slot, id, stack, name, "AWS::EC2::Instance", count, timeout)


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
HANDLERS["AWS::EC2::SecurityGroup"] = {
    "create": make_group,
    "delete": lambda id, properties: ec2.delete_security_group(GroupId=id),
}
HANDLERS["AWS::EC2::VPCEndpoint"] = {
    "create": make_endpoint,
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
    "delete": lambda id, properties: ec2.terminate_instances(InstanceIds=[id]),
}
HANDLERS["AWS::EC2::EIP"] = {"create": make_address, "update": update_address, "delete": delete_address}

on_worker_thread = stacks._runs_on_worker_thread
stacks._runs_on_worker_thread = lambda type: type == "AWS::EC2::Instance" or on_worker_thread(type)

if __name__ == "__main__":
    main()
